"""The picture of a sweep: accuracies of every student and of random images, and times."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdc import figures, io, plain_text
from latentdc.results.result import Result
from latentdc.sweep.run import ByPoint, cell_result
from latentdc.sweep.spec import Axis, Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL = (3.4, 2.7)  # inches, at least
_LETTER = 0.085  # inches of a letter, in ticks and legends
_LONGEST = 32  # letters of a name
_PIXELS = 30_000  # of a side at most
_DPI = 150
_RANDOM = "random images"  # in the legend
_MARKS = "os^DvP*X<>"


def draw(axes: Mapping[str, Axis], wanted: Sequence[Point], results: ByPoint, path: Path) -> bool:
    """Write the `picture` as a PNG; returns whether there is one and matplotlib is installed."""
    try:
        figure = picture(axes, wanted, results)
    except ImportError:
        return False
    if figure is None:
        return False
    with io.writing(path) as part:
        dpi = min(_DPI, _PIXELS / max(figure.get_size_inches()))
        figures.save(figure, part, format="png", dpi=dpi)
    return True


def picture(axes: Mapping[str, Axis], wanted: Sequence[Point], results: ByPoint) -> "Figure | None":
    """A row of panels for each student, and one of times; the last axis runs across each panel.

    Columns are the combinations of all axes but the last two, curves the names of the axis before
    the last; the axis of repetitions is none of them. Error bars are the sample standard deviations
    of the table; where there is no result is a gap. The random row is grey and dashed; where it
    differs between curves, each has its own. None without a finished cell.
    """
    from matplotlib.figure import Figure

    students = list(dict.fromkeys(one.student for found in results.values() for one in found))
    if not students:
        return None
    panels = list(dict.fromkeys(point[:-2] for point in wanted))
    curves = list(dict.fromkeys(point[-2:-1] for point in wanted))
    last, names = list(axes.items())[-1]
    ticks = [_short(name) for name in names]
    timed = any(one.seconds is not None for found in results.values() for one in found)
    longest = max(map(len, ticks))
    wide = max(_PANEL[0], 0.3 * len(names) + 1)
    steep = longest * _LETTER > (wide - 0.8) / len(names)
    legend = _LETTER * max(len(_short(name)) for name in [*map("".join, curves), _RANDOM]) + 0.9
    rows = len(students) + timed
    most = max(1, int((_PANEL[1] * rows - 0.4) / 0.19))  # lines of the legend
    beside = -(-(2 * len(curves) + 1) // most)  # columns, where each curve has a random one
    size = (
        wide * len(panels) + legend * beside,
        _PANEL[1] * rows + (0.7 * _LETTER * longest if steep else 0),
    )
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, len(panels), squeeze=False, sharex=True, sharey="row")
    for column, panel in enumerate(panels):
        for row, student in enumerate(students):
            known = {
                curve: _line(results, [(*panel, *curve, name) for name in names], student)
                for curve in curves
            }
            _accuracies(grid[row][column], known)
            _random(grid[row][column], results, panel, curves, list(names), student)
        if timed:
            for curve in curves:
                points = [(*panel, *curve, name) for name in names]
                _times(grid[-1][column], curves.index(curve), results, points)
        grid[0][column].set_title("\n".join(_short(name) for name in panel), fontsize="medium")
        grid[-1][column].set_xlabel(_short(last))
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if steep else {}
        grid[-1][column].set_xticks(range(len(names)), ticks, **turned)
        grid[-1][column].set_xlim(-0.5, len(names) - 0.5)
    for row, student in enumerate(students):
        grid[row][0].set_ylabel(f"{_short(student)}\ntest accuracy in %")
    if timed:
        grid[-1][0].set_ylabel("distillation in s")
        grid[-1][0].set_ylim(bottom=0)
    _legend(figure, grid.flat, None if len(axes) == 1 else _short(list(axes)[-2]), most)
    return figure


def _legend(figure: "Figure", panels: Iterable[Any], title: str | None, most: int) -> None:
    """One legend of all panels, `most` lines a column; none of a single curve without a title."""
    shown: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    if shown and (title is not None or len(shown) > 1):
        figure.legend(
            shown.values(),
            shown.keys(),
            title=title,
            loc="outside right upper",
            fontsize="small",
            ncols=-(-len(shown) // most),
        )


def _short(name: str) -> str:
    return plain_text.in_picture(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")


def _line(results: ByPoint, points: Sequence[Point], student: str) -> dict[int, Result]:
    """The cells' own results of a student, by their place on the last axis."""
    found = {
        place: cell_result(results.get(point, ()), student) for place, point in enumerate(points)
    }
    return {place: one for place, one in found.items() if one is not None}


def _accuracies(axis: Any, known: Mapping[Point, Mapping[int, Result]]) -> None:
    """A curve with error bars for each name, beside each other where many share a place."""
    for number, (curve, found) in enumerate(known.items()):
        own = next((one.set for one in found.values()), "")
        shift = 0.3 * (number / max(1, len(known) - 1) - 0.5) if len(known) > 1 else 0.0
        _bars(
            axis,
            {place + shift: one for place, one in found.items()},
            color=f"C{number % 10}",
            marker=_MARKS[number // 10 % len(_MARKS)],
            label=_short("".join(curve) or own),
        )


def _random(
    axis: Any,
    results: ByPoint,
    panel: Point,
    curves: Sequence[Point],
    names: Sequence[str],
    student: str,
) -> None:
    """The random rows of a panel's cells: one line where curves share them, else one of each."""
    lines: dict[Point, dict[float, Result]] = {}
    for curve in curves:
        for place, name in enumerate(names):
            for one in results.get((*panel, *curve, name), ()):
                if (one.set, one.student) == ("random", student):
                    lines.setdefault(curve, {})[place] = one
    shared: dict[float, set[tuple[float, ...]]] = {}
    for line in lines.values():
        for at, one in line.items():
            shared.setdefault(at, set()).add(one.accuracies)
    dashed = {"linestyle": "--", "zorder": 1}
    if all(len(alike) == 1 for alike in shared.values()):
        every = {at: one for line in lines.values() for at, one in sorted(line.items())}
        if every:
            _bars(axis, dict(sorted(every.items())), color="grey", label=_RANDOM, **dashed)
        return
    for curve, line in lines.items():
        number = curves.index(curve)
        label = f"{_RANDOM}, {_short(''.join(curve))}"
        _bars(axis, line, color=f"C{number % 10}", alpha=0.5, label=label, **dashed)


def _bars(axis: Any, found: Mapping[float, Result], **style: Any) -> None:
    """Means and sample standard deviations in %, joined; a single seed has no bar."""
    axis.errorbar(
        list(found),
        [100 * one.mean for one in found.values()],
        yerr=[float("nan") if one.std is None else 100 * one.std for one in found.values()],
        **{"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.2, **style},
    )


def _times(axis: Any, number: int, results: ByPoint, points: Sequence[Point]) -> None:
    known = {}
    for place, found in enumerate(results.get(point, ()) for point in points):
        own = cell_result(found, found[0].student) if found else None
        if own is not None and own.seconds is not None:
            known[place] = own.seconds
    marker, color = _MARKS[number // 10 % len(_MARKS)], f"C{number % 10}"
    axis.plot(list(known), list(known.values()), marker=marker, markersize=3, color=color)
