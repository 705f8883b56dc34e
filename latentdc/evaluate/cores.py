"""The core set of the rows `coreset` and `kept`: one that all runs of a call share."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Prune, Recipe
from latentdc.run_folder import CORESET
from latentdc.synthetic.open import Place

ROWS = ("coreset", "kept")


def shared_core(
    places: Sequence[Place], recipes: Sequence[Recipe], train: Dataset
) -> tuple[Dataset | None, str | None]:
    """The training images that the runs kept, or None and why there are none that all of them kept.

    Core sets that are scored themselves and sets of others have a say only among themselves.

    Args:
        places: where the sets lie.
        recipes: of the runs that they come from.
        train: all training images.
    """
    pairs = list(zip(places, recipes, strict=True))
    runs = [(p, r) for p, r in pairs if p.kind is None and not p.is_core] or pairs
    kept = [_kept(place, recipe.prune, train) for place, recipe in runs]
    if len({None if one is None else one.numpy().tobytes() for one in kept}) > 1:
        return None, "the runs of the sets kept different images; evaluate each set alone"
    first = kept[0]
    if first is None:
        return None, None
    return (train if len(first) == len(train.labels) else train.select(first)), None


def _kept(place: Place, prune: Prune, train: Dataset) -> Tensor | None:
    """Ascending indices of the training images that a run kept, None where nothing says which."""
    if prune.keeps_all and prune.coreset is None:
        return torch.arange(len(train.labels))
    path = place.run / CORESET if prune.coreset is None else Path(prune.coreset)
    return Coreset.load(path).indices(train) if path.is_file() else None
