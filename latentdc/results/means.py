"""Accuracies by seed, taken from frames of results; how a mean and its deviation are written."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COMPUTED = ("precision", "device", "torch")  # facts of the machine that round numbers otherwise


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (divided by n - 1), None for a single value."""
    return stdev(values) if len(values) > 1 else None


def by_seed(frame: "pd.DataFrame", students: Sequence[str], value: str = "accuracy") -> list[float]:
    """Mean over students for each seed that all of them have; empty where one is missing.

    The frame is of one set under one protocol, the value `accuracy` or `top5`. Seeds that repeat
    the training of another, as random images do beside each set of a sweep, count once.
    """
    means = named_by_seed(frame, students, value)
    first = first_alike(frame[frame["seed"].isin(list(means))])
    return [mean for seed, mean in means.items() if first[seed] == seed]


def first_alike(frame: "pd.DataFrame") -> dict[int | str, int | str]:
    """The first seed of the same training, for each seed of a frame as of `by_seed`."""
    known = frame[["seed", "training"]].drop_duplicates("seed").sort_values("seed")
    return dict(
        zip(known["seed"], known.groupby("training")["seed"].transform("first"), strict=True)
    )


def named_by_seed(
    frame: "pd.DataFrame", students: Sequence[str], value: str = "accuracy"
) -> dict[int | str, float]:
    """The means of `by_seed`, each under its seed; arguments as there."""
    found: dict[int | str, dict[str, float]] = {}
    known = frame[frame[value].notna()]
    for seed, student, number in zip(known["seed"], known["student"], known[value], strict=True):
        if student in students:
            found.setdefault(seed, {})[student] = float(number)
    count = len(set(students))
    return {s: fmean(found[s].values()) for s in sorted(found) if len(found[s]) == count}


def unseen_students(frame: "pd.DataFrame") -> list[str]:
    """Students that no distillation of the frame's sets used; empty unless there are several."""
    unseen = frame.groupby("student", sort=False)["unseen"].all()
    students = [str(student) for student in unseen.index[unseen]]
    return students if len(students) > 1 else []


def percent(values: Sequence[float]) -> str:
    """Mean and sample standard deviation of shares, in %; the mean alone of a single one."""
    return plus_minus(fmean(values), deviation(values)) if values else "-"


def over_seeds(*counts: int) -> str:
    """What a mean and its deviation are of, for captions."""
    if counts == (1,):
        return "1 seed"
    return f"mean ± sample std over {' or '.join(map(str, counts))} seeds"


def computed(machines: Sequence[Mapping[str, Any]]) -> str:
    """What results that stand together were computed with, where that differs; "" where not.

    A fact of pooled results may be a tuple of several.
    """
    known: dict[str, dict[object, None]] = {name: {} for name in COMPUTED}
    for name, one in ((name, machine.get(name)) for machine in machines for name in COMPUTED):
        known[name] |= dict.fromkeys(one if isinstance(one, tuple) else [one])
    told = {name: [one for one in found if isinstance(one, str)] for name, found in known.items()}
    return ", ".join(f"{name} {' or '.join(few)}" for name, few in told.items() if len(few) > 1)


def plus_minus(mean: float, error: float | None, sign: str = "") -> str:
    """Shares in % with one decimal."""
    return f"{100 * mean:{sign}.1f}" + ("" if error is None else f" ± {100 * error:.1f}")
