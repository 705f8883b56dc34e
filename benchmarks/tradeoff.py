"""Time against memory, both relative to the released schedule."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {"low": "low, n at a time"}
Point = tuple[str, float, float]  # way, time and memory over those of the released schedule


def annotate(axes: Axes, points: Sequence[Point]) -> None:
    """Write beside each point how many images are decoded at a time."""
    for title, time, memory in points:
        chunk = title.partition(", ")[2].split(" ")[0]
        axes.annotate(chunk, (memory, time), textcoords="offset points", xytext=(5, 4))


def draw(found: Mapping[str, Sequence[Point]], aim: float, path: Path) -> None:
    figure = Figure(figsize=(4 * len(found), 3.6), layout="constrained")
    every = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, points) in zip(every, found.items(), strict=True):
        for way, mark in (("fast", "*"), ("low", "o"), ("released", "x")):
            own = [point for point in points if point[0].startswith(way)]
            axes.plot(
                [p[2] for p in own], [p[1] for p in own], marker=mark, label=LABELS.get(way, way)
            )
            if way == "low":
                annotate(axes, own)
        axes.axhline(aim, color="grey", linewidth=0.7, linestyle=":")
        axes.set(xscale="log", xlabel="peak memory / released", title=name)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 1.1 * max(time for _, time, _ in points))
    every[0].set_ylabel("time / released")
    every[0].legend()
    figure.savefig(path, dpi=150)
    print(f"\npicture: {path}")
