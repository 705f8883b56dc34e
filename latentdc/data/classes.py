"""Class names: choosing some of them by name, and refusing sets that cannot be classified."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdc.config import nearest
from latentdc.data.subsets import subset_names
from latentdc.errors import InputError
from latentdc.recipe import Data


def chosen_names(names: Sequence[str], data: Data, source: str) -> list[str]:
    """The classes to keep, in their new order: all, or those of `data.classes` or `data.subset`.

    Raises:
        InputError: a chosen name that does not exist or stands twice, a subset whose classes are
            not all there, or fewer than two classes.
    """
    if data.subset is not None:
        return subset_names(names, data.subset, source)
    kept = list(names if data.classes is None else data.classes)
    for name in kept:
        if name not in names:
            known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise InputError(
                f"data.classes: {source} has no class {name!r}{nearest(name, names)}; "
                f"its {len(names)} classes: {known}."
            )
    if len(set(kept)) < len(kept):
        raise InputError(f"data.classes names a class twice: {kept}.")
    if len(kept) < 2:
        raise InputError(f"{source} has the single class {kept}; a classifier needs two or more.")
    return kept


def relabel(labels: Tensor, names: Sequence[str], kept: Sequence[str]) -> Tensor:
    """(N,) labels into `names` -> (N,) labels into `kept`, -1 for classes that are left out."""
    places = {name: place for place, name in enumerate(kept)}
    table = torch.tensor([places.get(name, -1) for name in names])
    return table[labels]


def require_members(labels: Tensor, names: Sequence[str], source: str) -> None:
    """Refuse a set in which a class has no image.

    Raises:
        InputError: naming the empty classes.
    """
    counts = torch.bincount(labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts.tolist(), strict=True) if count == 0]
    if empty:
        raise InputError(
            f"{source} has no images of {len(empty)} of its {len(names)} classes: "
            f"{', '.join(empty[:10])}; name the classes to keep with data.classes=[...]."
        )
