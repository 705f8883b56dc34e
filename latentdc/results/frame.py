"""Frames of results by seed, and the one way in which a mean and its deviation are written."""

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from latentdc.results.result import deviation

UNSEEN = "unseen"  # the column of the mean over several students that no distillation used


def by_seed(frame: pd.DataFrame, students: Sequence[str], value: str = "accuracy") -> list[float]:
    """Mean over students for each seed that all of them have; empty where one is missing.

    The frame is of one set under one protocol, the value `accuracy` or `top5`.
    """
    found: dict[int, dict[str, float]] = {}
    for seed, student, number in zip(frame["seed"], frame["student"], frame[value], strict=True):
        if student in students and not pd.isna(number):
            found.setdefault(seed, {})[student] = float(number)
    whole = (found[seed] for seed in sorted(found) if len(found[seed]) == len(set(students)))
    return [fmean(one.values()) for one in whole]


def unseen_students(frame: pd.DataFrame) -> list[str]:
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


def plus_minus(mean: float, error: float | None, sign: str = "") -> str:
    """Shares in % with one decimal."""
    return f"{100 * mean:{sign}.1f}" + ("" if error is None else f" ± {100 * error:.1f}")
