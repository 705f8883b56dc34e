"""Bring together what the cells of a sweep left: results.json, table.md and table.png."""

import json
import os
from pathlib import Path

from latentdc.sweep import finished
from latentdc.sweep.cells import Cells, place, runs
from latentdc.sweep.picture import draw
from latentdc.sweep.render import Result, to_json, to_markdown
from latentdc.sweep.spec import Sweep


def collect(cells: Cells, folder: Path) -> dict[tuple[str, ...], Result]:
    """The finished ones that have scores, by every point that shares their run."""
    found = {}
    home = runs(cells, folder)
    for point in cells:
        target = place(folder, home[point])
        if finished.is_finished(cells[home[point]], target):
            table = finished.table(target)
            if table is not None:
                run = place(Path(), home[point])
                found[point] = Result(run, table, finished.seconds(target))
    return found


def write(sweep: Sweep, cells: Cells, folder: Path) -> str:
    """Write the results of all finished cells, and return the table."""
    results, wanted = collect(cells, folder), list(cells)
    text = to_markdown(sweep.axes, wanted, results)
    for name, content in {
        "results.json": json.dumps(to_json(sweep.axes, results), indent=2) + "\n",
        "table.md": text + "\n",
    }.items():
        part = folder / f"{name}.{os.getpid()}.part"
        part.write_text(content, encoding="utf-8")
        os.replace(part, folder / name)
    draw(sweep.axes, wanted, results, folder / "table.png")
    return text
