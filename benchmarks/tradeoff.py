"""Time against memory, both relative to the released schedule."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Point = tuple[str, float, float]  # way, time and memory over those of the released schedule


def draw(found: Mapping[str, Sequence[Point]], aim: float, path: Path) -> None:
    figure = Figure(figsize=(4 * len(found), 3.6), layout="constrained")
    every = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, points) in zip(every, found.items(), strict=True):
        for way, mark in (("fast", "*"), ("low", "o"), ("replay", "s"), ("released", "x")):
            own = [point for point in points if point[0].startswith(way)]
            axes.plot([p[2] for p in own], [p[1] for p in own], marker=mark, label=way)
            for title, time, memory in own:
                chunk = title.partition(", ")[2].split(" ")[0]
                place = {"textcoords": "offset points", "xytext": (4, 4)}
                axes.annotate(chunk, (memory, time), **place)
        axes.axhline(aim, color="grey", linewidth=0.7, linestyle=":")
        axes.set(xscale="log", xlabel="peak memory / released", title=name)
        axes.set_ylim(bottom=0)
    every[0].set_ylabel("time / released")
    every[0].legend()
    figure.savefig(path, dpi=150)
    print(f"\npicture: {path}")
