"""Accuracy against storage: which sets no other one beats in both, and a picture of it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentdc.compare.groups import Group
from latentdc.compare.render import columns
from latentdc.plain_text import in_picture

MARKS = "osD^vP*X"


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


def save_frontier(path: Path, groups: Sequence[Group], what: str = "test accuracy") -> int:
    """Draw a panel for each protocol (rows) and student (columns), whole or not at all.

    Sets whose bytes are not known are left out. `what` names the accuracies.

    Returns:
        Panels that were drawn; without any there is no picture.
    """
    from matplotlib.figure import Figure

    drawn = [group for group in groups if any(line.size for line in group.lines)]
    if not drawn:
        return 0
    wide = max(len(columns(group)) for group in drawn)
    figure = Figure(figsize=(2.9 * wide + 0.6, 3.1 * len(drawn) + 0.4), layout="constrained")
    axes = figure.subplots(len(drawn), wide, squeeze=False)
    names = list(dict.fromkeys(line.name for g in drawn for line in g.lines if line.size))
    for group, row in zip(drawn, axes, strict=True):
        for panel in row[len(columns(group)) :]:
            panel.set_axis_off()
        for (name, students), panel in zip(columns(group), row, strict=False):
            _panel(panel, group, students, names)
            panel.set(title=in_picture(name), xlabel="images and stored soft labels")
            _scale(panel, [line.size for line in group.lines if line.size])
        protocol = in_picture(f"{group.protocol} ({group.protocol_hash})")
        row[0].set_ylabel(f"{protocol}\n{what} in %")
    found = {h.get_label(): h for row in axes for panel in row for h in _handles(panel)}
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=min(6, len(found))
    )
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=130)
    os.replace(part, path)
    return sum(len(columns(group)) for group in drawn)


def _panel(panel: Any, group: Group, students: Sequence[str], names: Sequence[str]) -> None:
    """Every set a mark with its spread, and a step line along the frontier."""
    points = []
    for line in group.lines:
        values = line.over(students)
        if line.size is None or values is None:
            continue
        mean = 100 * sum(values) / len(values)
        low, high = 100 * min(values), 100 * max(values)
        points.append((float(line.size), mean))
        place = names.index(line.name)
        panel.errorbar(
            [line.size],
            [mean],
            [[mean - low], [high - mean]],
            fmt=MARKS[place % len(MARKS)],
            color=f"C{place % 10}",
            capsize=2,
            label=in_picture(line.name),
        )
    best = [points[index] for index in frontier(points)]
    if best:
        panel.step(*zip(*best, strict=True), where="post", color="grey", zorder=0, label="frontier")
    panel.margins(0.15)


def _scale(panel: Any, sizes: Sequence[int]) -> None:
    """Logarithmic where sizes are far apart; in kB, MB, ... and with few marks, so all fit."""
    from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

    if max(sizes) > 5 * min(sizes):
        panel.set_xscale("log")
    else:
        panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(EngFormatter("B"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _handles(panel: Any) -> list[Any]:
    return list(panel.get_legend_handles_labels()[0])
