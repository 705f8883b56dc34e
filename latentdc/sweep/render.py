"""The table of a sweep: Markdown with the last axis across, and results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentdc.evaluate.score import Score, spread
from latentdc.evaluate.table import Table
from latentdc.plain_text import markdown_table
from latentdc.sweep.spec import Axis, Point

VERSION = 1  # of results.json
_FIXED = ("random", "full")  # rows that do not depend on the cell


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        run: its folder, below the sweep's.
        table: its scores.
        seconds: of all distillation steps; None where there were none.
    """

    run: Path
    table: Table
    seconds: float | None

    @property
    def score(self) -> Score:
        """Of the set that the cell is about, which is the first row that is no baseline."""
        rows = self.table.scores
        own = [name for name in rows if name not in (*_FIXED, "coreset")]
        return rows[own[0] if own else next(iter(rows))]


Results = Mapping[Point, Result]


def to_markdown(axes: Mapping[str, Axis], wanted: Sequence[Point], results: Results) -> str:
    """A table for each student, baselines that all cells share, and what the numbers are.

    Args:
        axes: of the sweep.
        wanted: all of its points.
        results: those that are there.
    """
    tables = [result.table for result in results.values()]
    students = list(dict.fromkeys(s for table in tables for s in table.protocol.students))
    lines: list[str] = []
    for student in students:
        lines += [f"**{student}**\n"] if len(students) > 1 else []
        lines += [_grid(axes, wanted, results, student), "", *_baselines(tables, student)]
    lines += _captions(tables, timed=any(one.seconds is not None for one in results.values()))
    missing = sum(point not in results for point in wanted)
    if missing:
        lines.append(f"\n{missing} of {len(wanted)} cells are not finished.")
    return "\n".join(lines)


def to_json(axes: Mapping[str, Axis], results: Results) -> dict[str, Any]:
    """The content of results.json: each finished cell with the rows of its own results."""
    return {
        "version": VERSION,
        "axes": {axis: list(names) for axis, names in axes.items()},
        "cells": [
            {
                "point": dict(zip(axes, point, strict=True)),
                "run": result.run.as_posix(),
                "seconds": result.seconds,
                **{
                    key: value
                    for key, value in result.table.to_json().items()
                    if key in ("ipc", "protocol", "protocol_hash", "steps", "rows")
                },
                "machine": asdict(result.table.machine),
            }
            for point, result in results.items()
        ],
    }


def _grid(axes: Mapping[str, Axis], wanted: Sequence[Point], results: Results, student: str) -> str:
    *leading, last = axes
    across = [name for name in axes[last] if any(point[-1] == name for point in wanted)]
    rows = [[*leading, *across]]
    for start in dict.fromkeys(point[:-1] for point in wanted):
        cells = []
        for name in across:
            point = (*start, name)
            result = results.get(point)
            cells.append(_cell(result, student) if result else "-" if point in wanted else "")
        rows.append([*start, *cells])
    return markdown_table(rows, left=len(leading))


def _cell(result: Result, student: str) -> str:
    values = result.score.accuracies.get(student)
    timed = "" if result.seconds is None else f" ({result.seconds:.0f} s)"
    return "-" if values is None else percent(values) + timed


def percent(accuracies: tuple[float, ...]) -> str:
    """Mean and sample standard deviation over seeds."""
    mean, std = sum(accuracies) / len(accuracies), spread(accuracies)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _baselines(tables: Sequence[Table], student: str) -> list[str]:
    """Of each baseline's sets once."""
    found = {
        (name, score.sets, table.protocol.hash): (
            f"{name}{'' if name == 'full' else f', ipc {table.ipc}'}: "
            f"{percent(score.accuracies[student])}"
        )
        for table in tables
        for name, score in table.scores.items()
        if name in _FIXED and student in score.accuracies
    }
    return ["; ".join(found.values()) + ".", ""] if found else []


def _captions(tables: Sequence[Table], *, timed: bool) -> list[str]:
    lines = []
    for protocol in {table.protocol.hash: table.protocol for table in tables}.values():
        seeds = (
            "1 seed" if protocol.seeds == 1 else f"mean ± sample std over {protocol.seeds} seeds"
        )
        lines.append(
            f"Test accuracy in % after the last step, {seeds}, protocol {protocol.name} "
            f"({protocol.hash}): {protocol.steps} steps for every cell"
            + ("; in brackets the time of all distillation steps." if timed else ".")
        )
    return lines
