"""Which samples of each class to keep, given a score of every sample."""

from typing import Literal

import torch
from torch import Tensor

from latentdc.errors import InputError


def select(
    scores: Tensor, labels: Tensor, *, keep: float, order: Literal["easy", "hard"]
) -> Tensor:
    """The `keep` share of every class with the lowest (`easy`) or highest (`hard`) scores.

    Ranked inside each class, so that rare and difficult classes survive. Of equal scores, the one
    with the smaller index comes first.

    Args:
        scores: (N,) floats such as losses, all finite.
        labels: (N,) class indices.
        keep: share in (0, 1]; rounded per class, and at least one sample each.
        order: which end of the ranking to keep.

    Returns:
        (M,) ascending indices.
    """
    if not 0 < keep <= 1:
        raise InputError(f"keep is a share in (0, 1], got {keep}; for 20 % pass 0.2.")
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        ranked = members[scores[members].argsort(stable=True, descending=order == "hard")]
        chosen.append(ranked[: kept_count(len(members), keep)])
    return torch.cat(chosen).sort().values


def kept_count(members: int, keep: float) -> int:
    """How many of a class's images `select` keeps."""
    return max(1, round(keep * members))
