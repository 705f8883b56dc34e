"""Charts of runs: measures over steps, and accuracy against what a set costs."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import pandas as pd

from latentdc.io import fingerprint
from latentdc.recipe import BASELINES
from latentdc.report.charts import COLORS, Chart, Mark, Series, curve, plot
from latentdc.report.runs import Run
from latentdc.results.comparison import columns, groups_of, lines_of, seconds_of, size_of
from latentdc.results.frontier import frontier
from latentdc.results.means import by_seed, deviation, plus_minus

_MEASURES = {
    "loss": "Loss over steps",
    "autoencoder_loss": "Loss of the autoencoder over steps",
    "unet_loss": "Loss of the denoiser over steps",
    "expert_loss": "Loss of experts, by the epochs of one after the other",
    "learned_lr": "Learned learning rate over steps",
    "trimmed": "Share of real images left out, over steps",
}
_PANELS = 12  # charts of a kind at most
# Of provenance; they do not part curves over steps.
_BESIDE = ("steps", "recipe", "latentdc", "seed", "seconds")


def step_charts(runs: Sequence[Run]) -> list[Chart]:
    """A chart for each measure that runs tell of their steps."""
    charts = []
    for name, title in _MEASURES.items():
        series = []
        for run in runs:
            values = run.measure(name)
            if len(values) > 1:
                steps = sorted(values)
                series.append(curve(run.name, steps, [values[step] for step in steps]))
        if len(series) > COLORS:
            title += f", {COLORS} of {len(series)} runs"
        if series:
            shown = series[:COLORS]
            charts.append(plot(shown, title=title, x_label="step", y_label=name, log="y"))
    return charts


def accuracy_charts(runs: Sequence[Run], frame: pd.DataFrame, value: str) -> list[Chart]:
    """Accuracy against bytes, seconds and steps, for each protocol and student."""
    steps = {run.hash: run.provenance.get("steps") for run in runs}

    def done(line: pd.DataFrame) -> float | None:
        found = steps.get(line["hash"].iloc[0])
        return found if isinstance(found, int) else None

    charts = []
    colors: dict[str, int] = {}
    for title, x_label, cost in (
        ("Accuracy and storage", "bytes of images and stored soft labels", size_of),
        ("Accuracy and compute", "seconds of distillation", seconds_of),
    ):
        charts += _panels(frame, value, title, x_label, cost, {}, colors)
    over = "Accuracy over steps", "steps of distillation", done, _parts(runs)
    return charts + _panels(frame, value, *over, {})


def _panels(
    frame: pd.DataFrame,
    value: str,
    title: str,
    x_label: str,
    cost: Callable[[pd.DataFrame], float | None],
    curves: Mapping[str | None, str],
    colors: dict[str, int],
) -> list[Chart]:
    """A chart for each protocol and student in which two sets of other cost stand at least.

    `curves` names the line that a set is a point of; without, the sets that no other beats are
    joined. Real images without the cost are a level each. `colors` has those of sets that were
    drawn before.
    """
    charts = []
    groups = list(groups_of(frame, value))
    for _, group in groups:
        protocol = f", {group['protocol'].iloc[0]}" if len(groups) > 1 else ""
        for student, students in columns(group):
            marks, levels = _marks(group, students, value, x_label.split()[0], cost, curves)
            every = [point for points in marks.values() for point in points]
            if len({point.x for point in every}) < 2:
                continue
            series = [
                Series(
                    name,
                    sorted(points, key=lambda point: point.x),
                    joined=bool(curves),
                    color=colors.setdefault(name, len(colors)),
                )
                for name, points in marks.items()
            ]
            best = frontier([(point.x, point.y) for point in every]) if not curves else []
            charts.append(
                plot(
                    series,
                    title=f"{title}: {student}{protocol}",
                    x_label=x_label,
                    y_label="test accuracy in %",
                    log="x",
                    steps=[every[index] for index in best],
                    levels=levels,
                )
            )
    return charts[:_PANELS]


def _marks(
    group: pd.DataFrame,
    students: Sequence[str],
    value: str,
    unit: str,
    cost: Callable[[pd.DataFrame], float | None],
    curves: Mapping[str | None, str],
) -> tuple[dict[str, list[Mark]], dict[str, float]]:
    """The points of sets, by the line that they are on, and the levels of real images."""
    marks: dict[str, list[Mark]] = {}
    levels: dict[str, float] = {}
    several = group["ipc"].nunique() > 1
    for line in lines_of(group):
        values, at = by_seed(line, students, value), cost(line)
        name, kind = str(line["name"].iloc[0]), line["set"].iloc[0]
        if not values:
            continue
        mean, error = 100 * fmean(values), deviation(values)
        if at is None:
            if kind in BASELINES and kind != "full" and len(levels) < 2:
                levels[name] = mean
            continue
        text = f"{name} (ipc {line['ipc'].iloc[0]})" if several else name
        tip = f"{text}: {plus_minus(fmean(values), error)} %, {at:,.0f} {unit}"
        bar = None if error is None else 100 * error
        joins = curves.get(line["hash"].iloc[0], text)
        marks.setdefault(joins, []).append(Mark(at, mean, tip, bar))
    return marks, levels


def _parts(runs: Sequence[Run]) -> dict[str | None, str]:
    """The curve of each run's set, by its hash: sets on one differ in their steps alone."""
    kinds: dict[str, dict[str, object]] = {}
    member = {}
    for run in runs:
        facts = {key: fact for key, fact in run.provenance.items() if key not in _BESIDE}
        member[run.hash] = fingerprint(facts)
        kinds[member[run.hash]] = facts
    keys = dict.fromkeys(key for facts in kinds.values() for key in facts)
    telling = [key for key in keys if len({repr(facts.get(key)) for facts in kinds.values()}) > 1]
    names = {
        kind: ", ".join(f"{key} {facts.get(key)}" for key in telling[:3]) or "all sets"
        for kind, facts in kinds.items()
    }
    return {digest: names[kind] for digest, kind in member.items()}
