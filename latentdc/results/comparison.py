"""A comparison: a table for each protocol, test set and preprocessing; differences; their formats.

Differences are paired by seed. A seed gives both trainings the same initial weights, so the
difference of their accuracies varies less than either, and its standard error is that of n
differences: sqrt(sum (d - mean d)^2 / ((n - 1) n)). It holds what another seed would change, and
neither another distillation of the set nor another test set.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from latentdc import plain_text
from latentdc.errors import InputError, counted, nearest
from latentdc.plain_text import Number, Rows
from latentdc.recipe import BASELINES
from latentdc.results import means, result
from latentdc.results.robustness import robustness

FORMATS = ("text", "markdown", "latex", "csv")
CONDITIONS = ["protocol_hash", "test", "preprocessing"]  # only under the same ones numbers compare


class Difference(NamedTuple):
    """How far the accuracies of one set are from another's.

    Attributes:
        mean: of the accuracies' differences, in [-1, 1].
        error: standard error of that mean, None with a single seed.
        seeds: differences that were averaged; those that share a training of either set are one.
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
    ours, theirs = (means.named_by_seed(each, students, value) for each in (one, other))
    shared = {seed: seed for seed in ours if seed in theirs}  # to the first that it is alike
    for first in (means.first_alike(each) for each in (one, other)):
        same: dict[int | str, int | str] = {}
        for seed in list(shared):
            kept, joined = shared[same.setdefault(first[seed], seed)], shared[seed]
            shared = {each: kept if of == joined else of for each, of in shared.items()}
    if not shared:
        return None
    pairs: dict[int | str, list[float]] = {}
    for seed, of in shared.items():
        pairs.setdefault(of, []).append(ours[seed] - theirs[seed])
    differences = [fmean(several) for several in pairs.values()]
    error = means.deviation(differences)
    count = len(differences)
    return Difference(fmean(differences), error and error / math.sqrt(count), count)


class Table(NamedTuple):
    """A caption and rows, of which the first is the header and the first column names sets."""

    caption: str
    rows: Rows


def tables(
    frame: pd.DataFrame, against: str | None = None, value: str = "accuracy"
) -> tuple[str | None, list[Table]]:
    """All tables. Sets under other protocols, test sets or preprocessing never share a column.

    Args:
        frame: of `read_runs`.
        against: set from which the others are subtracted, each from the one with as many images
            per class where there are several; None takes the first of each table.
        value: `accuracy` or `top5`.

    Returns:
        What is to be said of them together, if anything, and the tables.
    """
    groups = [group for _, group in groups_of(frame, value)]
    note = None
    if len(groups) > 1:
        note = (
            f"{len(groups)} tables: protocols, test sets or preprocessing differ, so their numbers "
            "are not comparable."
        )
    captions = [_caption(group, value) for group in groups]
    found = []
    for group, caption in zip(groups, captions, strict=True):
        seen = _preprocessing(group) if captions.count(caption) > 1 else ""
        found.append(Table(f"{caption}{seen}", _accuracies(group, value)))
        found += _differences(group, against, value)
    if value == "accuracy":  # DD-Ranking's scores are of the first guess
        found += _robustness(frame)
    return note, found


def require_choices(frame: pd.DataFrame, against: str | None, value: str) -> None:
    """Refuse a set or a kind of accuracy that no result has; arguments as of `tables`."""
    if frame[value].isna().all():
        raise InputError(
            "no result of these files holds top-5 accuracies: they are of five classes or fewer; "
            "leave --top5 out."
        )
    names = list(dict.fromkeys(frame["name"][frame[value].notna()]))
    if against not in (None, *names):
        if against in frame["name"].tolist():
            raise InputError(
                f"--against {against}: it has no top-5 accuracies, which {', '.join(names)} have; "
                "name one of these, or leave --top5 out."
            )
        raise InputError(
            f"--against {against}: there is no such set{nearest(str(against), names)}; there are "
            f"{', '.join(names)}."
        )


def written(
    frame: pd.DataFrame, kind: str, against: str | None = None, value: str = "accuracy"
) -> str:
    """All tables under their captions, in one of `FORMATS`; other arguments as of `tables`.

    LaTeX's are with booktabs.
    """
    if kind == "csv":
        return _csv(frame, against, value)
    note, found = tables(frame, against, value)
    if kind == "latex":
        lines = ["% needs \\usepackage{booktabs}", *([f"% {note}"] if note else [])]
        return "\n\n".join([*lines, *(plain_text.latex_table(t.rows, t.caption) for t in found)])
    render = plain_text.markdown_table if kind == "markdown" else plain_text.aligned_table
    parts = [part for table in found for part in (f"{table.caption}:", render(table.rows))]
    return plain_text.on_terminal("\n\n".join([*([note] if note else []), *parts]))


def _csv(frame: pd.DataFrame, against: str | None, value: str) -> str:
    """A line for each set and student of every table; numbers as shares, unrounded.

    `difference` and `error` are of the accuracies paired by seed, as the tables have them.
    """
    about = ["protocol", *CONDITIONS, "labels"]
    measures = ["seeds", "mean", "std", "bytes", "seconds", "minus", "difference", "error"]
    rows: list[list[object]] = [["set", "kind", "ipc", "student", *about, *measures]]
    for _, group in groups_of(frame, value):
        bases = _bases(group, against)
        for line in lines_of(group):
            first = line.iloc[0]
            other = _base_of(line, bases)
            for student, students in columns(group):
                values = means.by_seed(line, students, value)
                pair = other is not None and paired_difference(line, other, students, value)
                found = [len(values), fmean(values) if values else None, means.deviation(values)]
                facts = [size_of(line), seconds_of(line)]
                minus = None if other is None else other["name"].iloc[0]
                paired = [pair.mean, pair.error] if pair else [None, None]
                names = [first["name"], first["set"], int(first["ipc"]), student]
                rows.append([*names, *first[about], *found, *facts, minus, *paired])
    return plain_text.csv_table(rows)


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
    unseen = means.unseen_students(group)
    return single + ([(result.UNSEEN, unseen)] if unseen else [])


def size_of(line: pd.DataFrame) -> int | None:
    """Bytes of a set, where they were counted."""
    known = line["bytes"].dropna()
    return None if known.empty else int(known.iloc[0])


def seconds_of(line: pd.DataFrame) -> float | None:
    """Seconds of the distillation of a set, where they are known; real images take none."""
    known = line["seconds"].dropna()
    return None if known.empty or line["set"].iloc[0] in BASELINES else float(known.iloc[0])


def _caption(group: pd.DataFrame, value: str) -> str:
    what = "Top-5 test accuracy" if value == "top5" else "Test accuracy"
    seeds = sorted(set(group.groupby(["name", "ipc", "student"])["training"].nunique()))
    first = group.iloc[0]
    facts = group.rename(columns=lambda name: name.removeprefix("machine."))
    apart = means.computed(facts.to_dict("records"))
    return (
        f"{what} in %, {means.over_seeds(*seeds)}, "
        f"protocol {' or '.join(group['protocol'].unique())} "
        f"({first['protocol_hash']}), {counted(int(first['steps']), 'step')}, "
        f"test set {first['test']}{f', computed with {apart}' if apart else ''}"
    )


def _preprocessing(group: pd.DataFrame) -> str:
    """How students see images, for captions that nothing else tells apart."""
    facts = json.loads(group["preprocessing"].iloc[0])
    for name, value in facts.items():
        if isinstance(value, dict):  # what whitening or standardising was fitted on
            facts[name] = f"of {value.get('images') or value.get('samples')}"
    return "".join(f", {name} {value}" for name, value in sorted(facts.items()))


def _accuracies(group: pd.DataFrame, value: str) -> Rows:
    timed = any(seconds_of(line) is not None for line in lines_of(group))
    facts = ["bytes", *(["seconds"] if timed else [])]
    rows: list[list[str | Number]] = [
        ["set", "ipc", *facts, *(name for name, _ in columns(group))],
    ]
    for line in lines_of(group):
        took = [_count(seconds_of(line))] if timed else []
        values = [means.by_seed(line, students, value) for _, students in columns(group)]
        accuracies = [
            _points(fmean(found), means.deviation(found)) if found else Number("-")
            for found in values
        ]
        rows.append([*_set(line), _count(size_of(line)), *took, *accuracies])
    return rows


def _count(value: float | None) -> Number:
    """Bytes or seconds."""
    return Number("-") if value is None else Number(f"{value:,.0f}", value)


def _points(mean: float, error: float | None, sign: str = "", note: str = "") -> Number:
    """Shares, in %."""
    text = means.plus_minus(mean, error, sign) + note
    return Number(text, 100 * mean, None if error is None else 100 * error)


def _set(line: pd.DataFrame) -> tuple[str, str]:
    """Name and images per class."""
    first = line.iloc[0]
    return first["name"], {"full": "all", "kept": "kept"}.get(first["set"], str(first["ipc"]))


def _bases(group: pd.DataFrame, against: str | None) -> dict[int, pd.DataFrame]:
    """The set that others are subtracted from, by images per class; none where there are no two."""
    lines = lines_of(group)
    name = lines[0]["name"].iloc[0] if against is None else against
    named = [line for line in lines if line["name"].iloc[0] == name]
    return {int(line["ipc"].iloc[0]): line for line in named} if len(lines) > 1 else {}


def _base_of(line: pd.DataFrame, bases: Mapping[int, pd.DataFrame]) -> pd.DataFrame | None:
    """What a set is compared with: the only base, or the one of as many images per class.

    None where there is none, and for a base itself.
    """
    if any(line.index.equals(base.index) for base in bases.values()):
        return None
    only = next(iter(bases.values())) if len(bases) == 1 else None
    return bases.get(int(line["ipc"].iloc[0]), only)


def _differences(group: pd.DataFrame, against: str | None, value: str) -> list[Table]:
    """The other sets minus one, paired by seed; nothing where there is no other."""
    bases = _bases(group, against)
    if not bases:
        return []
    ipc = f"ipc {min(bases)}" if len(bases) == 1 else "same ipc"
    header = f"minus {next(iter(bases.values()))['name'].iloc[0]} ({ipc})"
    rows: list[list[str | Number]] = [[header, "ipc", *(name for name, _ in columns(group))]]
    for line in lines_of(group):
        base = _base_of(line, bases)
        if base is not None:
            values = [_difference(line, base, each, value) for _, each in columns(group)]
            rows.append([*_set(line), *values])
    text = "Differences paired by seed, in percentage points, mean ± standard error"
    return [Table(text, rows)] if len(rows) > 1 else []


def _difference(line: pd.DataFrame, base: pd.DataFrame, students: list[str], value: str) -> Number:
    found = paired_difference(line, base, students, value)
    if found is None:
        return Number("-")
    most = max(len(means.by_seed(one, students, value)) for one in (line, base))
    fewer = f" ({found.seeds} seed{'s' if found.seeds > 1 else ''})" if found.seeds < most else ""
    return _points(found.mean, found.error, "+", fewer)


def _robustness(frame: pd.DataFrame) -> list[Table]:
    found = robustness(frame)
    if found.empty:
        return []
    names = ["HLR", "IOR", "LRS", "IOR augmented", "IOR plain", "ARS"]
    about = ["set", "ipc", "student", "protocol"]
    rows: list[list[str | Number]] = [[*about, *names]]
    for one in found.to_dict("records"):
        numbers = [
            Number("-") if pd.isna(one[name]) else Number(f"{one[name]:.3f}", one[name])
            for name in names
        ]
        rows.append([*(str(one[key]) for key in about), *numbers])
    text = (
        "DD-Ranking's scores of mean accuracies as shares (the package's own are of percentage "
        "points); the real row is trained for as many steps as the set"
    )
    return [Table(text, rows)]
