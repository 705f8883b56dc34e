"""`python -m latentdc.sweep SWEEP`: fill a table of runs, and print it.

Imports no torch before all cells are checked.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentdc import cli, config
from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.run_folder import check_folder
from latentdc.sweep.cells import Cells, expand, place, runs
from latentdc.sweep.spec import Sweep, known_names, slug

if TYPE_CHECKING:
    from pathlib import Path


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = cli.recipe_parser(
        "latentdc sweep",
        "Run a recipe under every combination of named changes, as far as it is missing, and "
        "write one table and picture. Started more than once at a time, the commands share the "
        "cells.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="AXIS=NAME,...",
        help="run these names of an axis alone; the table shows all that is finished",
    )
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        path = config.find(options.recipe, "recipes")
        sweep = config.load(Sweep, path)
        only = _chosen(options.only, sweep)
        recipe = config.find(sweep.recipe, "recipes")
        overrides = [*sweep.overrides, *options.overrides]
        cells = expand(recipe, overrides, sweep.axes, skip=sweep.skip, check=check)
        wanted = _only(cells, sweep, only)
        if options.print_config:
            _describe(wanted, sweep)
            return
        folder = cli.run_folder(next(iter(cells.values())).output, path.stem)
        for point in set(runs(cells, folder).values()):
            check_folder(cells[point], place(folder, point))
        _run(sweep, cells, wanted, path.stem, folder)

    cli.exits(work)


def _run(sweep: Sweep, cells: Cells, wanted: Cells, name: str, folder: "Path") -> None:
    from accelerate import PartialState

    from latentdc.sweep.report import write
    from latentdc.sweep.run import carry_out

    carry_out(wanted, name, folder, every=cells)
    if PartialState().is_main_process:
        print(f"\n{write(sweep, cells, folder)}\n\nresults: {folder / 'results.json'}")


def _chosen(given: Sequence[str], sweep: Sweep) -> dict[str, list[str]]:
    """Names by axis, of `--only`, where `60` may stand for `60 %`.

    Raises:
        InputError: no AXIS=NAME, or one that the sweep does not have.
    """
    chosen = {}
    for one in given:
        axis, _, names = one.partition("=")
        short = {slug(name): name for name in sweep.axes.get(axis, {})}
        chosen[axis] = [short.get(name, name) for name in names.split(",")]
    known_names(chosen, sweep.axes, "--only")
    return chosen


def _only(cells: Cells, sweep: Sweep, only: dict[str, list[str]]) -> Cells:
    axes = list(sweep.axes)
    wanted = {
        point: recipe
        for point, recipe in cells.items()
        if all(point[axes.index(axis)] in names for axis, names in only.items())
    }
    if not wanted:
        raise InputError("no cell is left; the sweep skips all that --only names, or everything.")
    return wanted


def _describe(cells: Cells, sweep: Sweep) -> None:
    """Each cell and its overrides."""
    for point in cells:
        own = [
            change
            for axis, name in zip(sweep.axes, point, strict=True)
            for change in sweep.axes[axis][name]
        ]
        print(f"{'/'.join(point)}: {' '.join(own)}")
    print(f"{len(cells)} cells")


if __name__ == "__main__":
    main()
