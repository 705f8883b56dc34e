"""Refuse cells that keep too few images for what they distil, before the first is carried out."""

from accelerate import Accelerator

from latentdc import runtime
from latentdc.data.dataset import different_counts
from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.prune.select import most_kept
from latentdc.recipe import Data, Recipe
from latentdc.sweep.cells import Cells


def check_budgets(cells: Cells, accelerator: Accelerator) -> None:
    """Compare what each cell keeps at most with its ipc; every data set among them is opened once.

    Core sets that are brought, or that experts come with, are looked at when their turn comes.

    Raises:
        InputError: a budget that the data does not allow, or a class that keeps fewer images than
            are distilled of it.
    """
    opened: list[tuple[Data, dict[str, int]]] = []
    for point, recipe in cells.items():
        if recipe.prune.coreset is not None or recipe.objective.kind == "mtt":
            continue
        sizes = next((sizes for data, sizes in opened if data == recipe.data), None)
        if sizes is None:
            sizes = _class_sizes(recipe.data, accelerator)
            opened.append((recipe.data, sizes))
        try:
            _check(recipe, sizes)
        except InputError as error:
            raise InputError(f"cell {'/'.join(point)}: {error}") from error


def _class_sizes(data: Data, accelerator: Accelerator) -> dict[str, int]:
    train, _ = runtime.main_first(accelerator, lambda: open_splits(data))
    return dict(zip(train.class_names, different_counts(train).tolist(), strict=True))


def _check(recipe: Recipe, sizes: dict[str, int]) -> None:
    counts = most_kept(list(sizes.values()), recipe.prune)
    kept, name = min(zip(counts, sizes, strict=True))
    noise = recipe.distill.init == "noise" and "coreset" not in recipe.evaluate.rows
    if recipe.ipc > kept and not noise:
        raise InputError(
            f"ipc={recipe.ipc} is above the smallest class of the core set: {name!r} keeps {kept} "
            "images; skip this cell, lower ipc or raise prune.keep."
        )
