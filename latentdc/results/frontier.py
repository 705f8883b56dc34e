"""Accuracy against storage: which sets no other one beats in both, and a picture of it."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pandas as pd

from latentdc import figures, io, plain_text
from latentdc.results.comparison import columns, groups_of, lines_of, size_of
from latentdc.results.means import by_seed, deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LETTER = 0.1  # inches of a letter of the legend
_MARKS = "osD^vP*X"


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (bytes, accuracy) points that no other beats, by growing bytes.

    A point is beaten by one with fewer bytes and no less accuracy, or with more accuracy and no
    more bytes.
    """
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not kept or points[index][1] > points[kept[-1]][1]:
            kept.append(index)
    return kept


def draw_frontier(frame: pd.DataFrame, value: str = "accuracy") -> "Figure | None":
    """A panel for each protocol (rows) and student (columns); None where no set's bytes are known.

    Error bars are sample standard deviations over seeds, as in the tables. Sets whose bytes are not
    known are left out.
    """
    known = frame[frame.groupby(["name", "ipc"])["bytes"].transform("max") > 0]
    drawn = [(group, columns(group)) for _, group in groups_of(known, value)]
    if not drawn:
        return None
    wide = max(len(named) for _, named in drawn)
    names = list(known["name"].unique())
    width = 2.9 * wide + 0.6
    longest = max(len(plain_text.in_picture(name)) for name in [*names, "frontier"])
    across = max(1, min(6, int(width / (_LETTER * longest + 0.6))))  # names beside each other
    height = 3.1 * len(drawn) + 0.2 * -(-(len(names) + 1) // across)
    figure = figures.new_figure(width, height + 0.2)
    axes = figure.subplots(len(drawn), wide, squeeze=False)
    for (group, named), row in zip(drawn, axes, strict=True):
        for panel in row[len(named) :]:
            panel.set_axis_off()
        for (name, students), panel in zip(named, row, strict=False):
            _panel(panel, group, students, names, value)
            panel.set(title=plain_text.in_picture(name), xlabel="images and stored soft labels")
            _scale(panel, group["bytes"].dropna())
        first = group.iloc[0]
        protocol = plain_text.in_picture(f"{first['protocol']} ({first['protocol_hash']})")
        what = "top-5 test accuracy" if value == "top5" else "test accuracy"
        row[0].set_ylabel(f"{protocol}\n{what} in %")
    found = {
        h.get_label(): h
        for row in axes
        for panel in row
        for h in panel.get_legend_handles_labels()[0]
    }
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=min(across, len(found))
    )
    return figure


def save_figure(paths: Sequence[Path], figure: "Figure") -> None:
    """Write a picture as PNG, PDF or SVG by the endings of the paths, whole or not at all."""
    from matplotlib import rc_context

    for path in paths:
        kind = path.suffix.removeprefix(".")
        dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # same data, same file
        with io.writing(path) as part, rc_context({"svg.hashsalt": "latentdc"}):
            figures.save(figure, part, format=kind, dpi=130, metadata=dated.get(kind))


def _panel(
    panel: Any, group: pd.DataFrame, students: Sequence[str], names: Sequence[str], value: str
) -> None:
    """Every set a mark with its error bar, and a step line along the frontier."""
    points = []
    for line in lines_of(group):
        values = by_seed(line, students, value)
        if not values:
            continue
        mean, size = 100 * fmean(values), size_of(line) or 0
        points.append((float(size), mean))
        place = names.index(line["name"].iloc[0])
        panel.errorbar(
            [size],
            [mean],
            [100 * (deviation(values) or 0)],
            fmt=_MARKS[place % len(_MARKS)],
            color=f"C{place % 10}",
            capsize=2,
            label=plain_text.in_picture(names[place]),
        )
    best = [points[index] for index in frontier(points)]
    if best:
        panel.step(*zip(*best, strict=True), where="post", color="grey", zorder=0, label="frontier")
    panel.margins(0.15)


def _scale(panel: Any, sizes: "pd.Series[float]") -> None:
    """Logarithmic where sizes are far apart; in kB, MB, ... and with few marks, so all fit."""
    from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

    if max(sizes) > 5 * min(sizes):
        panel.set_xscale("log")
    else:
        panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(EngFormatter("B"))
    panel.xaxis.set_minor_formatter(NullFormatter())
