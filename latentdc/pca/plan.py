"""What one call of `latentdc pca` makes of its recipe: runs by images per class, and protocols.

Imports no torch.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from latentdc.errors import InputError
from latentdc.evaluate.loading import load_protocol
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.words import changes_for
from latentdc.recipe import Recipe

Pair = dict[bool, EvalProtocol]  # crops of whole images, and inside one cell (`True`)


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the budget of pruning that its mosaics need: n^2 images for each of them.

    Raises:
        InputError: it asks for another budget, or for cells without pixels.
    """
    grid, size, prune = recipe.combine.grid, recipe.data.resolution, recipe.prune
    needed = grid**2 * recipe.ipc
    if prune.keep != 1 or prune.scope != "class" or prune.count not in (None, needed):
        raise InputError(
            f"mosaics of {grid} x {grid} at ipc {recipe.ipc} take exactly {needed} images of each "
            "class; leave prune.keep, prune.count, prune.times_ipc and prune.scope out."
        )
    if size < 2 * grid:
        raise InputError(
            f"data.resolution={size} leaves cells of {size // grid} px in a grid of {grid}; take a "
            "smaller combine.grid."
        )
    return replace(recipe, prune=replace(prune, count=needed))


def runs(recipe: Recipe, folder: Path, ipcs: str | None) -> list[tuple[Recipe, Path]]:
    """Resolved recipes and their folders: the recipe's own, or one for each of `ipcs` inside it.

    Args:
        recipe: as it was read.
        folder: of the call.
        ipcs: images per class, joined by commas; None takes the recipe's.

    Raises:
        InputError: `ipcs` are not different whole numbers, or as `resolved`.
    """
    if ipcs is None:
        return [(resolved(recipe), folder)]
    words = [word.strip() for word in ipcs.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,8}", word) for word in words) or len(set(words)) < len(
        words
    ):
        raise InputError(f"--ipcs takes different whole numbers, such as 1,10, got {ipcs!r}.")
    return [(resolved(replace(recipe, ipc=int(word))), folder / f"ipc{word}") for word in words]


def protocols(recipe: Recipe, names: Sequence[str] = (), changes: Sequence[str] = ()) -> list[Pair]:
    """Each protocol with crops of whole images, and with crops inside one cell.

    Args:
        recipe: its students, seeds, steps and grid hold for all.
        names: of protocols; none takes the recipe's.
        changes: of their keys, see `changes_for`.

    Raises:
        InputError: one does not crop, or is wrong in itself.
    """
    names = names or [recipe.evaluate.protocol]
    return [_pair(recipe, name, changes_for(name, names, changes)) for name in names]


def _pair(recipe: Recipe, name: str, changes: Sequence[str]) -> Pair:
    wanted, grid = recipe.evaluate, recipe.combine.grid
    protocol = load_protocol(
        name, students=wanted.students, seeds=wanted.seeds, steps=wanted.steps, changes=changes
    )
    protocol.check_students(recipe.data.resolution)
    if protocol.views.crop is None:
        raise InputError(
            f"the protocol {protocol.name} has no views.crop that could stay inside a cell; take "
            "evaluate.protocol=pca, or one with views.crop."
        )
    return {
        False: _with_cells(protocol, None, "whole mosaics"),
        True: _with_cells(protocol, grid, f"cells of {grid} x {grid}"),
    }


def _with_cells(protocol: EvalProtocol, cells: int | None, words: str) -> EvalProtocol:
    if protocol.views.cells == cells:
        return protocol
    views = replace(protocol.views, cells=cells)
    return replace(protocol, name=f"{protocol.name} on {words}", views=views)
