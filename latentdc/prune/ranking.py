"""Ranking by hardness: what `easy`, `hard` and `middle` mean."""

from typing import Literal

import torch
from torch import Tensor

Order = Literal["easy", "hard", "middle"]


def ranked(hardness: Tensor, order: Order) -> Tensor:
    """(n,) positions, those to keep first; of equals, the smaller position comes first.

    Args:
        hardness: (n,) finite, high is hard.
        order: `easy` begins with the lowest, `hard` with the highest, `middle` with the median and
            goes outwards, so that its first M are M neighbours in the ranking.
    """
    ranks = hardness.argsort(stable=True, descending=order == "hard")
    if order != "middle":
        return ranks
    places = torch.arange(len(ranks))
    return ranks[(2 * places - (len(ranks) - 1)).abs().argsort(stable=True)]
