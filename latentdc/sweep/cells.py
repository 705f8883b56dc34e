"""The runs of a sweep: a checked recipe for each combination of names, and which are the same run.

Imports no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from latentdc import config
from latentdc.errors import InputError
from latentdc.recipe import Prune, Recipe
from latentdc.sweep.spec import Axis, Point, slug

Cells = dict[Point, Recipe]


def expand(
    path: Path,
    overrides: Sequence[str],
    axes: Mapping[str, Axis],
    *,
    skip: Sequence[Mapping[str, Sequence[str]]] = (),
    check: Callable[[Recipe], None] = lambda recipe: None,
    word: str = "cell",
) -> Cells:
    """The recipe of every point, the last axis running fastest.

    Args:
        path: of the recipe.
        overrides: of all cells alike; those of a point win over them.
        axes: overrides by axis and name.
        skip: points to leave out: those whose names an entry lists on each of its axes.
        check: refuses what a recipe's parts say only together.
        word: for a point, in messages.

    Raises:
        InputError: a point that the recipe does not allow, or a recipe that pushes.
    """
    cells: Cells = {}
    for point in product(*axes.values()):
        names = dict(zip(axes, point, strict=True))
        if any(all(names[axis] in listed for axis, listed in one.items()) for one in skip):
            continue
        own = [change for axis, name in names.items() for change in axes[axis][name]]
        try:
            recipe = config.load(Recipe, path, [*overrides, *own])
            check(recipe)
        except InputError as error:
            changed = f" ({' '.join(own)})" if own else ""
            raise InputError(f"{word} {'/'.join(point)}{changed}: {error}") from error
        if recipe.push.repo is not None:
            raise InputError(
                f"push.repo={recipe.push.repo} would push every {word} over the one before; leave "
                "it out, and push the run you want with `latentdc push`."
            )
        cells[point] = recipe
    return cells


def runs(cells: Cells, folder: Path) -> dict[Point, Point]:
    """The point whose run each one has: cells of the same recipe share one.

    Of several it is the one whose folder is there, else the first.
    """
    alike: dict[str, list[Point]] = {}
    for point, recipe in cells.items():
        alike.setdefault(config.to_yaml(_plain(recipe)), []).append(point)
    found: dict[Point, Point] = {}
    for points in alike.values():
        begun = [point for point in points if place(folder, point).is_dir()]
        found |= dict.fromkeys(points, (begun or points)[0])
    return found


def place(folder: Path, point: Point) -> Path:
    """The run folder of a point."""
    return folder.joinpath(*map(slug, point))


def _plain(recipe: Recipe) -> Recipe:
    """Without settings of a pruning that keeps everything, which change nothing."""
    prune = recipe.prune
    if prune.keeps_all and prune.coreset is None and not prune.columns:
        return replace(recipe, prune=Prune())
    return recipe
