"""The sets that `latentdc pca` makes and how each is seen: PCA's ablation, and RDED beside it.

Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from latentdc.config import nearest
from latentdc.errors import InputError
from latentdc.evaluate.protocol import EvalProtocol, load_protocol
from latentdc.recipe import Recipe


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        folder: of the set, in the run folder.
        confined: whether crops stay inside one cell.
    """

    folder: Literal["pruned", "synthetic", "rded"]
    confined: bool


VARIANTS = {
    "P": Variant("pruned", confined=False),
    "P+C": Variant("synthetic", confined=False),
    "P+C+A": Variant("synthetic", confined=True),
    "RDED": Variant("rded", confined=False),
    "RDED+A": Variant("rded", confined=True),
}


def chosen(names: Sequence[str]) -> dict[str, Variant]:
    """The variants of these names.

    Raises:
        InputError: unknown ones.
    """
    for name in names:
        if name not in VARIANTS:
            hint = nearest(name, VARIANTS)
            raise InputError(f"unknown variant {name!r}{hint}; known: {', '.join(VARIANTS)}.")
    return {name: VARIANTS[name] for name in VARIANTS if name in names}


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


def protocols(recipe: Recipe) -> dict[bool, EvalProtocol]:
    """The recipe's protocol with crops of whole images, and with crops inside one cell (`True`).

    Raises:
        InputError: it does not crop, or is wrong in itself.
    """
    wanted, grid = recipe.evaluate, recipe.combine.grid
    protocol = load_protocol(
        wanted.protocol, students=wanted.students, seeds=wanted.seeds, steps=wanted.steps
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
