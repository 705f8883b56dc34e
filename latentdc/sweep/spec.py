"""What a sweep's file may say, and the cells that it stands for. Imports no torch."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from math import prod
from pathlib import Path

from latentdc import config
from latentdc.errors import InputError, nearest
from latentdc.recipe import Prune, Recipe, require
from latentdc.recipe.fields import check_fields, show

_MOST_CELLS = 10_000
# What a sweep's folder holds beside the folders of its cells.
_FILES = ("results.json", "report.html", "table.md", "table.png", "trainings", "scores")
Point = tuple[str, ...]  # a name on each axis
Axis = dict[str, list[str]]  # overrides by name
Cells = dict[Point, Recipe]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A table of runs: one recipe under every combination of named changes.

    Attributes:
        recipe: YAML file, or the name of a recipe that latentdc brings.
        overrides: of every run.
        axes: what varies: by the axis's name and a name on it, the overrides that this stands for.
            The last axis makes the columns of the table and the horizontal of the picture, the one
            before it the curves. The names of a single axis are the rows of the table.
        skip: combinations that are not wanted, as lists of names by axis; an axis that is not
            listed has all of its names.
        only: names by axis of the cells that there are, in place of all; as `--only`.
        over: axis whose names are repetitions, such as seeds of the recipe: tables and the picture
            pool their trainings.
        against: an axis and a name on it, whose cell the others of that axis are compared with,
            paired by the names of `over` and the students' seeds. Tables then have a row for each
            name of the axis, and there is one for each combination of the axes that are left.
    """

    recipe: str
    overrides: list[str] = field(default_factory=list)
    axes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    skip: list[dict[str, list[str]]] = field(default_factory=list)
    only: dict[str, list[str]] = field(default_factory=dict)
    over: str | None = None
    against: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        require(
            bool(self.axes), "a sweep varies something; give axes: {name: {name: [key=value]}}."
        )
        for axis, names in self.axes.items():
            require(bool(names), f"axes.{axis} is empty; give names and their overrides.")
            folders = [slug(name) for name in names]
            require(
                all(folders) and len({one.lower() for one in folders}) == len(folders),
                f"axes.{axis}: names become folders and differ in letters or digits, not in case "
                f"alone; got {', '.join(names)}.",
            )
            require(
                all(len(folder.encode()) <= 200 for folder in folders),
                f"axes.{axis}: names become folders, of at most 200 bytes; got "
                f"{show(max(names, key=len))}.",
            )
        later = dict(self.axes)
        for axis, names in self.axes.items():
            del later[axis]
            for change in chain.from_iterable(names.values()):
                anew = _sets_anew(change, later)
                require(
                    anew is None,
                    f"axes.{axis} sets {change}, which each name of axes.{anew}, a later one, sets "
                    "anew; leave it out of one of the two.",
                )
        taken = {name: slug(name).casefold() for name in next(iter(self.axes.values()))}
        own = [name for name, folder in taken.items() if folder in _FILES]
        require(
            not own,
            f"axes.{next(iter(self.axes))}: names become folders beside a sweep's own "
            f"{', '.join(_FILES)}, got {', '.join(own)}; give it another name.",
        )
        cells = prod(map(len, self.axes.values()))
        require(
            cells <= _MOST_CELLS,
            f"axes make {cells:,} cells, and at most {_MOST_CELLS:,} are run; leave some names "
            "out.",
        )
        for entry in self.skip:
            require_names(entry, self.axes, "skip")
        require_names(self.only, self.axes, "only")
        if self.over is not None:
            require_names({self.over: []}, self.axes, "over")
            require(
                len(self.axes) > 1,
                f"over={self.over} is the only axis; the table needs another one for its rows.",
            )
        require_names({axis: [name] for axis, name in self.against.items()}, self.axes, "against")
        require(
            len(self.against) < 2 and self.over not in self.against,
            f"against is one name on one axis other than over={self.over}, such as "
            f"{{method: plain}}; got {show(self.against)}.",
        )
        base = {axis: [name] for axis, name in self.against.items()}
        left = (dict(zip(self.axes, point, strict=True)) for point in self.points())
        require(
            any(_named(names)(base) for names in left) or not base,
            f"against is {show(self.against)}, and skip or only leaves out every cell of it; name "
            "another one.",
        )

    def changes(self, point: Point) -> list[str]:
        """The overrides that a point stands for."""
        names = zip(self.axes, point, strict=True)
        return [change for axis, name in names for change in self.axes[axis][name]]

    def points(self) -> list[Point]:
        """Points that are wanted, the last axis running fastest."""
        every = [dict(zip(self.axes, point, strict=True)) for point in product(*self.axes.values())]
        return [
            tuple(names.values())
            for names in every
            if _named(names)(self.only) and not any(map(_named(names), self.skip))
        ]


def read_sweep(path: Path) -> Sweep:
    """The sweep of a file; where it names one that it is `like`, laid over that one.

    Axes and their names are added to those of the other, or stand in place of them; overrides
    follow the other's.

    Raises:
        InputError: as `config.load`; a sweep that is like one that is like a third.
    """
    content = config.read(path)
    if (name := content.pop("like", None)) is None:
        return config.build(Sweep, content, path.name)
    if not isinstance(name, str):
        raise InputError(
            f"{path.name}: like names a sweep, such as sweeps/methods; got {show(name)}."
        )
    other = config.find(name, "recipes")
    below = config.read(other)
    if "like" in below:
        raise InputError(f"{path.name} is like {name}, which is like another one; name that one.")
    config.build(Sweep, below, other.name)  # which refuses what is wrong there
    tree = config.merged(below, content)
    if isinstance(own := content.get("overrides"), list):
        tree["overrides"] = [*below.get("overrides", []), *own]
    return config.build(Sweep, tree, path.name)


def _named(names: Mapping[str, str]) -> Callable[[Mapping[str, Sequence[str]]], bool]:
    return lambda entry: all(names[axis] in listed for axis, listed in entry.items())


def _sets_anew(change: str, axes: Mapping[str, Axis]) -> str | None:
    """The first of some axes of which each name sets all keys of an override; None of none."""
    keys = _keys(change)

    def sets(changes: Sequence[str]) -> bool:  # these keys, some above or some below them
        known = {f"{key}." for change in changes for key in _keys(change)}
        return bool(keys) and all(
            any(one.startswith(f"{key}.") or f"{key}.".startswith(one) for one in known)
            for key in keys
        )

    return next((axis for axis, names in axes.items() if all(map(sets, names.values()))), None)


def _keys(change: str) -> set[str]:
    try:
        return config.keys_of(change)
    except InputError:  # which the cell tells where it is expanded
        return set()


def _key(change: str) -> str:
    return change.partition("=")[0]


def slug(name: str) -> str:
    """A name as part of a path: `60 %` is `60`."""
    return re.sub(r"[^\w.=+-]+", "-", name).strip("-.")


def require_names(chosen: dict[str, list[str]], axes: dict[str, Axis], what: str) -> None:
    """Refuse axes and names on them that a sweep does not have."""
    for axis, names in chosen.items():
        if axis not in axes:
            raise InputError(
                f"{what}: there is no axis {axis!r}{nearest(axis, axes)}; known: {', '.join(axes)}."
            )
        for name in names:
            if name not in axes[axis]:
                raise InputError(
                    f"{what}: {axis} has no {name!r}{nearest(name, axes[axis])}; known: "
                    f"{', '.join(axes[axis])}."
                )


def expand(
    sweep: Sweep,
    overrides: Sequence[str] = (),
    *,
    only: Mapping[str, Sequence[str]] | None = None,
    check: Callable[[Recipe], None] = lambda recipe: None,
) -> Cells:
    """The recipe of every point, the last axis running fastest.

    Points that the recipe does not allow are refused, and recipes that push.

    Args:
        sweep: what varies.
        overrides: of all cells alike, beside the sweep's; those of a point win over them.
        only: names by axis of the wanted cells; others that the recipe does not allow are left out.
        check: refuses what a recipe's parts say only together.
    """
    path = config.find(sweep.recipe, "recipes")
    lists = [sweep.only, only or {}]
    chosen = {
        axis: {n: names[n] for n in names if all(n in one.get(axis, names) for one in lists)}
        for axis, names in sweep.axes.items()
    }
    for change in overrides:
        if (axis := _sets_anew(change, chosen)) is not None:
            some = "" if len(chosen[axis]) == len(sweep.axes[axis]) else " that is chosen"
            raise InputError(
                f"{change} changes no cell, because each name of the axis {axis}{some} sets "
                f"{_key(change)}; choose others of its names by --only {axis}=..., change them in "
                "a copy of the sweep's file (`latentdc copy`), or leave it out."
            )
    cells: Cells = {}
    for point in sweep.points():
        own = sweep.changes(point)
        try:
            recipe = config.load(Recipe, path, [*sweep.overrides, *overrides, *own])
            check(recipe)
        except InputError as error:
            if only and not _named(dict(zip(sweep.axes, point, strict=True)))(only):
                continue
            changed = f" ({' '.join(own)})" if own else ""
            raise InputError(f"cell {'/'.join(point)}{changed}: {error}") from error
        if recipe.push.repo is not None:
            raise InputError(
                f"push.repo={recipe.push.repo} would push every cell over the one before; leave "
                "it out, and push the run you want with `latentdc push`."
            )
        if cells and recipe.output != (output := next(iter(cells.values())).output):
            raise InputError(
                f"cell {'/'.join(point)} has output={recipe.output} and the first one "
                f"output={output}; a sweep has one folder: give it after the sweep's name."
            )
        cells[point] = recipe
    return cells


def wanted_points(cells: Cells, sweep: Sweep, only: Mapping[str, Sequence[str]]) -> list[Point]:
    """Points of the cells whose names are listed, one at least."""
    points = [p for p in cells if _named(dict(zip(sweep.axes, p, strict=True)))(only)]
    if not points:
        raise InputError(
            "no cell is left; --only, skip and only of the sweep leave out all of them."
        )
    return points


def shared_runs(cells: Cells, folder: Path) -> dict[Point, Point]:
    """The point whose run each one has: cells of the same recipe share one.

    Of several it is the one whose folder is there, else the first.
    """
    alike: dict[str, list[Point]] = {}
    for point, recipe in cells.items():
        alike.setdefault(config.to_yaml(_plain(recipe)), []).append(point)
    found: dict[Point, Point] = {}
    for points in alike.values():
        begun = [point for point in points if cell_folder(folder, point).is_dir()]
        found |= dict.fromkeys(points, (begun or points)[0])
    return found


def cell_folder(folder: Path, point: Point) -> Path:
    """The run folder of a point."""
    return folder.joinpath(*map(slug, point))


def _plain(recipe: Recipe) -> Recipe:
    """The recipe without settings of a pruning that keeps everything, which change nothing."""
    prune = recipe.prune
    if prune.keeps_all and prune.coreset is None and not prune.columns:
        return replace(recipe, prune=Prune())
    return recipe
