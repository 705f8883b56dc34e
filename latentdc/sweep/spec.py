"""What a sweep's file may say. Imports no torch."""

import re
from dataclasses import dataclass, field
from math import prod

from latentdc.errors import InputError
from latentdc.recipe import require
from latentdc.recipe.fields import check_fields, nearest, show

MOST_CELLS = 10_000
Point = tuple[str, ...]  # a name on each axis
Axis = dict[str, list[str]]  # overrides by name


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A table of runs: one recipe under every combination of named changes.

    Attributes:
        recipe: YAML file, or the name of a recipe that latentdc brings.
        overrides: of every run.
        axes: what varies: by the axis's name and a name on it, the overrides that this stands for.
            The last axis makes the columns of the table and the horizontal of the picture, the one
            before it the curves.
        skip: combinations that are not wanted, as lists of names by axis; an axis that is not
            listed has all of its names.
    """

    recipe: str
    overrides: list[str] = field(default_factory=list)
    axes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    skip: list[dict[str, list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        require(
            bool(self.axes), "a sweep varies something; give axes: {name: {name: [key=value]}}."
        )
        for axis, names in self.axes.items():
            require(bool(names), f"axes.{axis} is empty; give names and their overrides.")
            folders = [slug(name) for name in names]
            require(
                all(folders) and len(set(folders)) == len(folders),
                f"axes.{axis}: names become folders and differ in letters or digits, got "
                f"{', '.join(names)}.",
            )
            require(
                all(len(folder.encode()) <= 200 for folder in folders),
                f"axes.{axis}: names become folders, of at most 200 bytes; got "
                f"{show(max(names, key=len))}.",
            )
        cells = prod(map(len, self.axes.values()))
        require(
            cells <= MOST_CELLS,
            f"axes make {cells:,} cells, and at most {MOST_CELLS:,} are run; leave some names out.",
        )
        for entry in self.skip:
            known_names(entry, self.axes, "skip")


def slug(name: str) -> str:
    """A name as part of a path: `60 %` is `60`."""
    return re.sub(r"[^\w.=+-]+", "-", name).strip("-.")


def known_names(chosen: dict[str, list[str]], axes: dict[str, Axis], what: str) -> None:
    """Refuse axes and names on them that a sweep does not have.

    Raises:
        InputError: with the nearest ones.
    """
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
