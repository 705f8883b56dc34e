"""Charts and tables of the page: what the template draws, and where, in pixels.

A table has error bars that share the scale of its columns.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from latentdc.errors import counted
from latentdc.plain_text import Number
from latentdc.results.comparison import Table

_WIDTH, _HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 46  # margins
COLORS = 8  # of series (--c0 to --c7 in page.css), from which they begin anew
POINTS = 200  # of a line at most; of more each is the mean of several
_ROWS = 1000  # of a table
_BAR = (60, 12)  # pixels of the error bar in a cell
_SUFFIXES = {9: "G", 6: "M", 3: "k"}
Edge = tuple[float, str]  # a position in pixels, and the label there


@dataclass(frozen=True)
class Mark:
    """A value to be drawn.

    Attributes:
        x: in the unit of the axis.
        y: likewise.
        tip: what is shown under the pointer.
        error: half the length of the error bar; None draws none.
    """

    x: float
    y: float
    tip: str
    error: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        name: in the legend.
        points: by growing x where they are joined.
        joined: by a line.
        marked: with a dot each; else they are seen under the pointer alone.
        color: its number, for a set that keeps its colour in several charts; None takes its place.
    """

    name: str
    points: Sequence[Mark]
    joined: bool = True
    marked: bool = True
    color: int | None = None


@dataclass(frozen=True)
class Scale:
    """A scale from values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value, rounded."""
        a, b, v = self.low, self.high, value
        if self.log:
            a, b, v = math.log10(a), math.log10(b), math.log10(max(v, self.low))
        return round(self.start + (v - a) / (b - a) * (self.end - self.start), 1)

    def ticks(self) -> list[Edge]:
        """Round values inside of the axis, with their labels."""
        inside = [v for v in self._round(5) if self.low * (1 - 1e-9) <= v <= self.high + 1e-12]
        return [(self(value), short(value)) for value in inside]

    def _round(self, most: int) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found: list[float] = []
            for steps in ((1, 2, 5), (1, 5), (1,)):
                found = [step * 10.0**power for power in powers for step in steps]
                if sum(self.low <= value <= self.high for value in found) <= most:
                    break
            return found
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [round(n * step, 12) for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Iterable[float], start: float, end: float, *, log: bool = False) -> Scale:
    """An axis that holds all values, with a little room; logarithmic only where all are above 0."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if log and low > 0 and high > low:
        room = (high / low) ** 0.06
        return Scale(low / room, high * room, start, end, log=True)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    below = 0.0 if low >= 0 and low - room < 0 else low - room
    return Scale(below, high + room, start, end)


def short(value: float) -> str:
    """A number of few digits: 1,200,000 is 1.2M."""
    for power, suffix in _SUFFIXES.items():
        if abs(value) >= 10**power:
            return f"{value / 10**power:.4g}{suffix}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Chart:
    """What the template draws; all positions are pixels of `_WIDTH` x `_HEIGHT`.

    Attributes:
        title: above it.
        x_label: of the axis.
        y_label: likewise.
        x_ticks: positions and labels.
        y_ticks: likewise.
        lines: number of a series or None (the frontier), and the SVG path.
        marks: number of a series, whether it is seen, x, y, ends of the error bar or None, the tip.
        bars: number of a series, x, y, width, height, the tip.
        levels: y and name of horizontal lines, and whether the name stands at their right end.
        legend: number of a series and its name.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Edge]
    y_ticks: Sequence[Edge]
    lines: Sequence[tuple[int | None, str]] = ()
    marks: Sequence[tuple[int, bool, float, float, tuple[float, float] | None, str]] = ()
    bars: Sequence[tuple[int, float, float, float, float, str]] = ()
    levels: Sequence[tuple[float, str, bool]] = ()
    legend: Sequence[tuple[int, str]] = ()
    width: int = field(default=_WIDTH, init=False)
    height: int = field(default=_HEIGHT, init=False)
    box: tuple[int, int, int, int] = field(
        default=(_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM), init=False
    )


def plot(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: Literal["", "x", "y"] = "",
    steps: Sequence[Mark] = (),
    levels: Mapping[str, float] | None = None,
) -> Chart:
    """Lines and marks, of a colour for each series.

    `log` names the axis that is logarithmic where its values are far apart. `steps` are the points
    of a step line in grey, by growing x: the frontier. `levels` are values of horizontal lines, by
    name.
    """
    points = [point for one in series for point in one.points]
    levels = levels or {}
    xs = [point.x for point in points]
    ys = [y for p in points for y in (p.y - (p.error or 0), p.y + (p.error or 0))]
    ys += levels.values()
    x = axis(xs, _LEFT, _WIDTH - _RIGHT, log=log == "x" and max(xs) > 5 * min(xs))
    y = axis(ys, _HEIGHT - _BOTTOM, _TOP, log=log == "y" and max(ys) > 20 * min(ys))
    lines: list[tuple[int | None, str]] = []
    if steps:
        first, *others = steps
        way = "".join(f"H{x(p.x)}V{y(p.y)}" for p in others)
        lines.append((None, f"M{x(first.x)} {y(first.y)}{way}H{_WIDTH - _RIGHT}"))
    marks = []
    colors = [n if one.color is None else one.color for n, one in enumerate(series)]
    for number, one in zip(colors, series, strict=True):
        place = number % COLORS
        if one.joined and len(one.points) > 1:
            way = "L".join(f"{x(p.x)} {y(p.y)}" for p in one.points)
            lines.append((place, f"M{way}"))
        for p in one.points:
            bar = None if p.error is None else (y(p.y - p.error), y(p.y + p.error))
            marks.append((place, one.marked, x(p.x), y(p.y), bar, p.tip))
    named = [(n % COLORS, one.name) for n, one in zip(colors, series, strict=True) if one.name]
    return Chart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        lines=lines,
        marks=marks,
        levels=[(y(v), name, _fits_right(y(v), name, marks)) for name, v in levels.items()],
        legend=named,
    )


def _fits_right(level: float, name: str, marks: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a name at the right end of a level hides no mark, or would at the left too."""
    width = 7 * len(name) + 6

    def free(start: float) -> bool:
        return not any(
            start - 6 <= x <= start + width + 6
            and min(bar or (y, y)) - 6 <= level
            and max(bar or (y, y)) + 6 >= level - 16
            for _, _, x, y, bar, _ in marks
        )

    return free(_WIDTH - _RIGHT - width) or not free(_LEFT)


def curve(name: str, steps: Sequence[float], values: Sequence[float]) -> Series:
    """A line over steps, each point the mean of several where there are many."""
    groups = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    points = []
    for group in groups:
        first, last = steps[group[0]], steps[group[-1]]
        mean = float(np.mean([values[index] for index in group]))
        where = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        points.append(Mark((first + last) / 2, mean, f"{name}, {where}: {mean:.4g}"))
    return Series(name, points, marked=False)


def histogram(name: str, values: np.ndarray, kept: np.ndarray, *, title: str) -> Chart:
    """How many samples have which score, those that were kept in another colour.

    Of (N,) finite scores outliers, 0.1 % at each end, share the outermost bars; `kept` (N,) says
    which were kept.
    """
    low, high = np.quantile(values, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-6), 41)
    shown = values.clip(edges[0], edges[-1])
    every, some = (np.histogram(v, edges)[0] for v in (shown, shown[kept]))
    x = Scale(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    y = Scale(0, max(1, int(every.max())) * 1.06, _HEIGHT - _BOTTOM, _TOP)
    bars = []
    for place, (start, end) in enumerate(pairwise(edges)):
        both = f"{name} {short(start)} to {short(end)}: "
        tip = f"{both}{counted(int(every[place]), 'image')}, {some[place]:,} kept"
        for color, count in ((0, every[place]), (1, some[place])):
            if count:
                top, width = y(count), round(x(end) - x(start) - 0.6, 1)
                bars.append((color, x(start), top, width, round(_HEIGHT - _BOTTOM - top, 1), tip))
    return Chart(
        title=title,
        x_label=name,
        y_label="images",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        bars=bars,
        legend=[(0, "all"), (1, "kept")],
    )


# ---- Tables ----


@dataclass(frozen=True)
class Cell:
    """A cell of a table: text, what it is sorted by, and the error bar as pixels from the left."""

    text: str
    key: str | float
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Shown:
    """What the template draws of a table."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    bar: tuple[int, int] = _BAR


def shown(table: Table) -> Shown:
    """A table without empty columns, whose error bars share a scale in each column."""
    header, *body = table.rows
    caption = f"{table.caption} (the first {_ROWS:,} of {len(body):,} rows)"
    caption, body = (caption, body[:_ROWS]) if len(body) > _ROWS else (table.caption, body)
    known = [
        (str(name), _cells(column))
        for name, column in zip(header, zip(*body, strict=True), strict=True)
        if any(not isinstance(each, Number) or each.value is not None for each in column)
    ]
    names, columns = zip(*known, strict=True)
    return Shown(caption, names, list(zip(*columns, strict=True)))


def _cells(column: Sequence[str | Number]) -> list[Cell]:
    means = [
        (each.value, each.error)
        for each in column
        if isinstance(each, Number) and each.value is not None and each.error is not None
    ]
    low = min((mean - error for mean, error in means), default=0.0)
    high = max((mean + error for mean, error in means), default=1.0)
    scale = Scale(low, max(high, low + 1e-9), 2, _BAR[0] - 2)
    found = []
    for each in column:
        if not isinstance(each, Number):
            number = each.replace(",", "")
            found.append(Cell(each, float(number) if number.isdecimal() else each))
            continue
        bar = None
        if each.value is not None and each.error is not None:
            ends = (each.value - each.error, each.value, each.value + each.error)
            bar = (scale(ends[0]), scale(ends[1]), scale(ends[2]))
        found.append(Cell(each.text, float("-inf") if each.value is None else each.value, bar))
    return found
