"""`python -m latentdc.sweep SWEEP`: fill a table of runs, and print it.

Imports no torch before all cells are checked.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from latentdc import cli, config, ranks, run_folder
from latentdc.distill import check
from latentdc.errors import counted
from latentdc.recipe import Recipe
from latentdc.results.result import RESULTS, refuse_newer
from latentdc.sweep import spec


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Run a recipe under every combination of named changes, as far as it is missing, and "
        "write one table and picture. Started more than once at a time, the commands share the "
        "cells."
    )
    cli.recipe_arguments(parser, Recipe)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="AXIS=NAME,...",
        help="run these names of an axis alone; the table shows all that is finished",
    )
    parser.add_argument(
        "--recipe", dest="base", metavar="RECIPE", help="vary this recipe in place of the sweep's"
    )


def run(options: argparse.Namespace) -> None:
    """Fill the table as far as it is wanted."""
    path = config.find(options.recipe, "recipes")
    sweep = spec.read_sweep(path)
    stem = path.stem
    if options.base is not None:
        sweep = replace(sweep, recipe=options.base)
        stem = f"{path.stem}_{config.find(options.base, 'recipes').stem}"
    only = _chosen(options.only, sweep)
    cells = spec.expand(sweep, options.overrides, only=only, check=check)
    wanted = spec.wanted_points(cells, sweep, only)
    if options.print_config:
        for point in wanted:
            cli.print_result(f"{'/'.join(point)}: {' '.join(sweep.changes(point))}")
        cli.print_result(counted(len(wanted), "cell"))
        return
    first = next(iter(cells.values()))
    folder = cli.run_folder(first.output, stem)
    runs = spec.shared_runs(cells, folder)
    if options.dry_run:
        cli.print_result(_costs(cells, wanted, runs, folder, options))
        return
    for point in set(runs.values()):
        run_folder.check_folder(cells[point], spec.cell_folder(folder, point))
    refuse_newer(folder / RESULTS)
    ranks.say("sweep", f"{stem}, {counted(len(wanted), 'cell')}, in {folder}")
    given = [sweep.recipe, *sweep.overrides, *options.overrides]
    words = {point: [*given, *sweep.changes(point)] for point in cells}

    from accelerate import PartialState

    from latentdc.provenance import shared_command
    from latentdc.sweep.report import write
    from latentdc.sweep.run import carry_out

    carry_out(wanted, cells, stem, folder, words)
    if PartialState().is_main_process:
        chosen = [word for one in options.only for word in ("--only", one)]
        base = [] if options.base is None else ["--recipe", options.base]
        command = ["latentdc", "sweep", options.recipe, *base, *chosen, *options.overrides]
        print(f"\n{write(sweep, cells, folder, shared_command(command))}\n")
        print(f"results: {folder / RESULTS}\nreport: {folder / 'report.html'}")


def _costs(
    cells: spec.Cells,
    wanted: Sequence[spec.Point],
    runs: Mapping[spec.Point, spec.Point],
    folder: Path,
    options: argparse.Namespace,
) -> str:
    """What the wanted runs would take that are not finished."""
    from latentdc.cost import Hardware, describe_sweep
    from latentdc.sweep.run import is_finished

    points = dict.fromkeys(runs[point] for point in wanted)
    done = {p for p in runs.values() if is_finished(cells[p], spec.cell_folder(folder, p))}
    missing = [cells[point] for point in points if point not in done]
    return describe_sweep(
        missing,
        len(points) - len(missing),
        len(wanted),
        Hardware.of(options, next(iter(cells.values())).processes),
        there=[cells[point] for point in done],
    )


def _chosen(given: Sequence[str], sweep: spec.Sweep) -> dict[str, list[str]]:
    """Names by axis, of `--only`, where `60` may stand for `60 %`."""
    chosen: dict[str, list[str]] = {}
    for one in given:
        axis = next((a for a in sweep.axes if one.startswith(f"{a}=")), one.partition("=")[0])
        names = one.removeprefix(axis).removeprefix("=")
        known = sweep.axes.get(axis, {})
        short = {spec.slug(name): name for name in known}
        listed = [names] if names in known else names.split(",")
        chosen.setdefault(axis, []).extend(short.get(name, name) for name in listed)
    spec.require_names(chosen, sweep.axes, "--only")
    return chosen


main = cli.entry("sweep")

if __name__ == "__main__":
    main()
