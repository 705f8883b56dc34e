"""The picture of a sweep: accuracy, and time where there is any, over the last axis."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from latentdc.evaluate.score import spread
from latentdc.plain_text import in_picture
from latentdc.sweep.render import Result, Results
from latentdc.sweep.spec import Axis, Point

_PANEL = (3.4, 2.7)  # inches
_LEGEND = 1.3


def draw(axes: Mapping[str, Axis], wanted: Sequence[Point], results: Results, path: Path) -> bool:
    """Draw a panel for each combination of all axes but the last two, with a curve for each name.

    The curves are those of the axis before the last. They are the first student's accuracies with
    their standard deviation; a second row of panels shows the time of distillation.

    Args:
        axes: of the sweep.
        wanted: all of its points.
        results: those that are there; curves have gaps where there are none.
        path: of the PNG.

    Returns:
        Whether it was drawn; it needs matplotlib and a finished cell.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not results:
        return False
    panels = list(dict.fromkeys(point[:-2] for point in wanted))
    timed = any(result.seconds is not None for result in results.values())
    size = (_PANEL[0] * len(panels) + _LEGEND * (len(axes) > 1), _PANEL[1] * (1 + timed))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + timed, len(panels), squeeze=False, sharex=True)
    last = list(axes)[-1]
    for column, panel in enumerate(panels):
        for curve in dict.fromkeys(p[-2:-1] for p in wanted if p[:-2] == panel):
            at = [name for name in axes[last] if (*panel, *curve, name) in results]
            found = [results[(*panel, *curve, name)] for name in at]
            places = [list(axes[last]).index(name) for name in at]
            heights, errors = _accuracies(found)
            label = in_picture("".join(curve))
            grid[0][column].errorbar(
                places, heights, yerr=errors, marker="o", markersize=3, capsize=2, label=label
            )
            if timed:
                grid[1][column].plot(
                    places, [r.seconds or 0 for r in found], marker="o", markersize=3
                )
        grid[0][column].set_title(in_picture(", ".join(panel)))
        grid[-1][column].set_xlabel(in_picture(last))
        grid[-1][column].set_xticks(range(len(axes[last])), [*map(in_picture, axes[last])])
    grid[0][0].set_ylabel("test accuracy in %")
    if timed:
        grid[1][0].set_ylabel("distillation in s")
        for axis in grid[1]:
            axis.set_ylim(bottom=0)
    if len(axes) > 1:
        curves = grid[0][0].get_legend_handles_labels()
        figure.legend(*curves, loc="outside right upper", fontsize="small")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    figure.savefig(part, format="png", dpi=150)
    os.replace(part, path)
    return True


def _accuracies(found: Sequence[Result]) -> tuple[list[float], list[float]]:
    """Means and standard deviations in %, of the first student."""
    values = [result.score.accuracies[result.table.protocol.students[0]] for result in found]
    return [100 * fmean(one) for one in values], [100 * (spread(one) or 0) for one in values]
