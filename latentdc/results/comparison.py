"""A comparison as Markdown: a table for each protocol, test set and preprocessing; differences.

Differences are paired by seed. A seed gives both trainings the same initial weights, so the
difference of their accuracies varies less than either, and its standard error is that of n
differences: sqrt(sum (d - mean d)^2 / ((n - 1) n)). It holds what another seed would change, and
neither another distillation of the set nor another test set.
"""

import json
import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from latentdc.plain_text import markdown_table
from latentdc.results.frame import UNSEEN, by_seed, over_seeds, percent, plus_minus, unseen_students
from latentdc.results.result import deviation
from latentdc.results.robustness import robustness

CONDITIONS = ["protocol_hash", "test", "preprocessing"]  # only under the same ones numbers compare


class Difference(NamedTuple):
    """Of one set from another.

    Attributes:
        mean: of the accuracies' differences, in [-1, 1].
        error: standard error of that mean, None with a single seed.
        seeds: differences that were averaged.
    """

    mean: float
    error: float | None
    seeds: int


def paired_difference(
    one: pd.DataFrame, other: pd.DataFrame, students: Sequence[str], value: str = "accuracy"
) -> Difference | None:
    """Mean accuracy over students of `one` minus that of `other`, over the seeds of both.

    None where a student is missing. Both are frames of one set, as `by_seed` takes them.
    """
    pairs = zip(by_seed(one, students, value), by_seed(other, students, value), strict=False)
    differences = [a - b for a, b in pairs]
    if not differences:
        return None
    error = deviation(differences)
    count = len(differences)
    return Difference(fmean(differences), error and error / math.sqrt(count), count)


def to_markdown(frame: pd.DataFrame, against: str | None = None, value: str = "accuracy") -> str:
    """All tables. Sets under other protocols, test sets or preprocessing never share a column.

    Args:
        frame: of `read_runs`.
        against: set from which the others are subtracted; None takes the first of each table.
        value: `accuracy` or `top5`.
    """
    groups = [group for _, group in groups_of(frame, value)]
    parts = []
    if len(groups) > 1:
        parts.append(
            f"{len(groups)} tables: protocols, test sets or preprocessing differ, so their numbers "
            "are not comparable."
        )
    captions = [_caption(group, value) for group in groups]
    for group, caption in zip(groups, captions, strict=True):
        seen = _preprocessing(group) if captions.count(caption) > 1 else ""
        table = _accuracies(group, value)
        parts += [f"{caption}{seen}:", table, *_differences(group, against, value)]
    if value == "accuracy":  # DD-Ranking's scores are of the first guess
        parts += _robustness(frame)
    return "\n\n".join(parts)


def groups_of(frame: pd.DataFrame, value: str) -> Iterator[tuple[object, pd.DataFrame]]:
    """Trainings under the same conditions, each once."""
    known = frame[frame[value].notna()]
    once = known.drop_duplicates(["name", "ipc", *CONDITIONS, "student", "seed"])
    yield from once.groupby(CONDITIONS, sort=False)


def lines_of(group: pd.DataFrame) -> list[pd.DataFrame]:
    """The trainings of each set."""
    return [line for _, line in group.groupby(["name", "ipc"], sort=False)]


def columns(group: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Names and students of a group's columns; the last is the mean of several unseen students."""
    single = [(student, [student]) for student in group["student"].unique()]
    unseen = unseen_students(group)
    return single + ([(UNSEEN, unseen)] if unseen else [])


def size_of(line: pd.DataFrame) -> int | None:
    """Bytes of a set, where they were counted."""
    known = line["bytes"].dropna()
    return None if known.empty else int(known.iloc[0])


def _caption(group: pd.DataFrame, value: str) -> str:
    what = "Top-5 test accuracy" if value == "top5" else "Test accuracy"
    seeds = sorted(set(group.groupby(["name", "ipc", "student"])["seed"].nunique()))
    first = group.iloc[0]
    return (
        f"{what} in %, {over_seeds(*seeds)}, "
        f"protocol {' or '.join(group['protocol'].unique())} "
        f"({first['protocol_hash']}), {first['steps']} steps, test set {first['test']}"
    )


def _preprocessing(group: pd.DataFrame) -> str:
    """How students see images, for captions that nothing else tells apart."""
    facts = json.loads(group["preprocessing"].iloc[0])
    return "".join(f", {name} {_fact(value)}" for name, value in sorted(facts.items()))


def _fact(value: object) -> str:
    """Numbers by channel, or what whitening or standardising was fitted on."""
    if isinstance(value, dict):
        return f"of {value.get('images') or value.get('samples')}"
    return str(value)


def _accuracies(group: pd.DataFrame, value: str) -> str:
    rows = [["set", "ipc", "bytes", *(name for name, _ in columns(group))]]
    for line in lines_of(group):
        size = size_of(line)
        values = [percent(by_seed(line, students, value)) for _, students in columns(group)]
        rows.append([*_set(line), "-" if size is None else f"{size:,}", *values])
    return markdown_table(rows)


def _set(line: pd.DataFrame) -> tuple[str, str]:
    """Name and images per class."""
    first = line.iloc[0]
    return first["name"], {"full": "all", "kept": "kept"}.get(first["set"], str(first["ipc"]))


def _differences(group: pd.DataFrame, against: str | None, value: str) -> list[str]:
    """The other sets minus one, paired by seed; nothing where there is no other."""
    lines = lines_of(group)
    named = [line for line in lines if against in (None, line["name"].iloc[0])]
    if not named or len(lines) < 2:
        return []
    base = named[0]
    header = f"minus {base['name'].iloc[0]} (ipc {base['ipc'].iloc[0]})"
    rows = [[header, "ipc", *(name for name, _ in columns(group))]]
    for line in lines:
        if line is not base:
            values = [_difference(line, base, each, value) for _, each in columns(group)]
            rows.append([*_set(line), *values])
    text = "Differences paired by seed, in percentage points, mean ± standard error:"
    return [text, markdown_table(rows)]


def _difference(line: pd.DataFrame, base: pd.DataFrame, students: list[str], value: str) -> str:
    found = paired_difference(line, base, students, value)
    if found is None:
        return "-"
    most = max(len(by_seed(one, students, value)) for one in (line, base))
    fewer = f" ({found.seeds} seed{'s' if found.seeds > 1 else ''})" if found.seeds < most else ""
    return plus_minus(found.mean, found.error, "+") + fewer


def _robustness(frame: pd.DataFrame) -> list[str]:
    found = robustness(frame)
    if found.empty:
        return []
    names = ["HLR", "IOR", "LRS", "IOR augmented", "IOR plain", "ARS"]
    about = ["set", "ipc", "student", "protocol"]
    rows = [[*about, *names]]
    for one in found.to_dict("records"):
        numbers = ["-" if pd.isna(one[name]) else f"{one[name]:.3f}" for name in names]
        rows.append([*(str(one[key]) for key in about), *numbers])
    text = (
        "DD-Ranking's scores of mean accuracies as shares (the package's own are of percentage "
        "points); the real row is trained for as many steps as the set:"
    )
    return [text, markdown_table(rows)]
