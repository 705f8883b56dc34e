"""Read results.json and evaluation.json of any runs, one `Entry` for each set and student."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from latentdc.compare.names import named_apart
from latentdc.errors import InputError
from latentdc.evaluate.score import TOP1, TOP5, accuracies_of
from latentdc.io import read_json
from latentdc.recipe import BASELINES
from latentdc.recipe.fields import show
from latentdc.synthetic import folder as layout

FILES = ("results.json", "evaluation.json")
# What reading a file can raise whose values are anything that JSON has.
UNFIT = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """The accuracies of one student on one set under one protocol.

    Attributes:
        name: of the set, different from every other set's in a comparison.
        row: its kind: one of `BASELINES`, or the name that its own table gives it.
        run: folder of its results.
        file: that holds the row.
        ipc: images per class.
        student: name of the network.
        accuracies: in [0, 1], by seed.
        sets: hashes of the set that each seed trained on.
        unseen: whether the distillation used another network.
        protocol: its name.
        settings: all of it.
        protocol_hash: of all that decides one training.
        test: what it was tested on: the hash of the test set, or in older files its name.
        preprocessing: facts of how students see images, as JSON; None in older files.
        counts: hash of the images of each class, of its set or the sets that it stands beside;
            None where all classes have as many.
        brought: whether students learned from soft labels that came with the set.
        size: bytes of images and stored soft labels, None where they are not known.
        shared: other runs that hold the same row.
    """

    name: str
    row: str
    run: Path
    file: Path
    ipc: int
    student: str
    accuracies: tuple[float, ...]
    sets: tuple[str, ...]
    unseen: bool
    protocol: str
    settings: Mapping[str, Any]
    protocol_hash: str
    test: str
    preprocessing: str | None
    counts: str | None
    brought: bool
    size: int | None
    shared: tuple[Path, ...] = ()

    @property
    def mean(self) -> float:
        """Over seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def group(self) -> tuple[str, str, str | None]:
        """What its number can be compared with: the same protocol, test set and preprocessing."""
        return self.protocol_hash, self.test, self.preprocessing


def read_all(given: Sequence[str], values: str = TOP1) -> list[Entry]:
    """Entries of runs and files, each set under a name of its own; the same row counts once.

    Args:
        given: run folders, folders of sweeps, results.json or evaluation.json.
        values: key of a row's accuracies, `TOP1` or `TOP5`; rows without it are left out.

    Raises:
        InputError: nothing to read, or a file that is none of ours.
    """
    found: dict[tuple[object, ...], Entry] = {}
    files = [file for name in given for file in _files(Path(name).expanduser())]
    for entry in _preprocessed([entry for path in files for entry in _read(path, values)]):
        found[*_row_of(entry), entry.student] = entry  # a file may be named twice
    unique = _once(list(found.values()))
    if not unique and values == TOP5:
        raise InputError(
            "no row of these files holds top-5 accuracies: they are of five classes or fewer, or "
            "were trained by an older latentdc; leave --top5 out."
        )
    return named_apart(unique)


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else [path / name for name in FILES if (path / name).is_file()]
    if not files:
        raise InputError(
            f"{path} holds no {' or '.join(FILES)}; give run folders or these files. "
            "latentdc evaluate writes one."
        )
    return files


def _read(path: Path, values: str, *, of_sweep: bool = False) -> list[Entry]:
    try:
        content = read_json(path)
        if "cells" in content and not of_sweep:
            return _cells(path, content, values)
        run = path.resolve().parent
        run = run.parent if run.name == "synthetic" else run
        rows = [row for row in content["rows"] if values == TOP1 or values in row]
        entries = [_entry(row, content, run, path.resolve(), values) for row in rows]
        if len({(_row_of(entry), entry.student) for entry in entries}) < len(entries):
            raise ValueError("a row stands there twice")
        return entries
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except UNFIT as error:
        raise InputError(
            f"{path} is no results.json or evaluation.json of latentdc ({error!r})."
        ) from error


def _cells(path: Path, content: Mapping[str, Any], values: str) -> list[Entry]:
    """Of the runs of a sweep, whose sets are named by their points, of which some share a run."""
    entries = []
    points: dict[Path, list[str]] = {}
    for cell in content["cells"]:
        points.setdefault(path.parent / cell["run"], []).append(", ".join(cell["point"].values()))
    for run, names in points.items():
        if not (run / FILES[0]).is_file():
            raise InputError(
                f"{path} is the table of a sweep whose run {run} holds no {FILES[0]}; start the "
                "sweep again, or give the runs that are there."
            )
        for entry in _read(run / FILES[0], values, of_sweep=True):
            own = entry.row == "distilled"
            entries.append(replace(entry, name=" and ".join(names) if own else entry.name))
    return entries


def _entry(
    row: Mapping[str, Any], content: Mapping[str, Any], run: Path, file: Path, values: str
) -> Entry:
    """A row with what results.json says once for all rows, and evaluation.json in each."""
    every = {**content, **row}
    digest, name, student = (_the(str, every, key) for key in ("protocol_hash", "set", "student"))
    settings = content["protocols"][digest] if "protocols" in content else None
    settings = settings or content["protocol_settings"]
    _the(int, settings, "steps", 1)
    for part in ("views", "labels"):
        _the(dict, {part: {}, **settings}, part)
    facts = _the(dict, every, "preprocessing") if every.get("preprocessing") is not None else None
    if not row[values] or not row["sets"]:
        raise ValueError("a row has no accuracies, or no sets")
    unseen = row["unseen"] if "unseen" in row else student in content["unseen"]
    return Entry(
        name=run.name if name == "distilled" else name,
        row=name,
        run=run,
        file=file,
        ipc=_the(int, every, "ipc", 1),
        student=student,
        accuracies=accuracies_of(row, values),
        sets=tuple(_the(str, {"sets": one}, "sets") for one in _the(list, row, "sets")),
        unseen=bool(unseen),
        protocol=_the(str, every, "protocol"),
        settings=settings,
        protocol_hash=digest,
        test=_the(str, every, "test") if every.get("test") else _test_name(run),
        preprocessing=None if facts is None else json.dumps(facts, sort_keys=True),
        counts=_the(str, every, "counts") if every.get("counts") is not None else None,
        brought=row.get("labels", {}).get("source") == "brought",
        size=_size(row, run),
    )


def _the(kind: type[T], content: Mapping[str, Any], key: str, least: int = 0) -> T:
    """A value of the type that latentdc writes.

    Raises:
        TypeError: of another.
        ValueError: a number below the least.
    """
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is {show(value)}")
    if isinstance(value, int) and value < least:
        raise ValueError(f"{key} is {value}")
    return value


def _preprocessed(entries: Sequence[Entry]) -> list[Entry]:
    """Rows of older files are taken to have the preprocessing of the others, if those have one."""
    known: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        if entry.preprocessing is not None:
            known.setdefault((entry.protocol_hash, entry.test), set()).add(entry.preprocessing)
    filled = []
    for entry in entries:
        others = known.get((entry.protocol_hash, entry.test), set())
        if entry.preprocessing is None and len(others) == 1:
            entry = replace(entry, preprocessing=next(iter(others)))
        filled.append(entry)
    return filled


def _test_name(run: Path) -> str:
    """Data and resolution by name, for files that do not hold the hash of their test set."""
    for folder in (run / "synthetic", run):
        if (path := folder / layout.PROVENANCE).is_file():
            facts = read_json(path)
            return f"{facts.get('dataset')}, {facts.get('resolution')} px"
    return "not recorded"


def _size(row: Mapping[str, Any], run: Path) -> int | None:
    """Bytes of images and soft labels: as they were counted when the row was scored.

    Rows of before that: of the run's set as it lies there, else as `latentdc measure` found.
    """
    labels = _the(int, {"label_bytes": 0, **row.get("labels", {})}, "label_bytes")
    if "image_bytes" in row:
        return _the(int, row, "image_bytes") + labels
    if row["set"] == "distilled":
        for folder in (run / "synthetic", run):
            if layout.is_set(folder):
                from latentdc.synthetic.storage import stored_image_bytes

                return stored_image_bytes(folder) + labels
    path = run / "metrics.json"
    known = read_json(path)["sets"].get(row["set"]) if path.is_file() else None
    if known is None:
        return None
    sizes = known["storage"]
    return int(sizes.get("images/float32", sizes["images/png"])) + labels


def _row_of(entry: Entry) -> tuple[object, ...]:
    """What the students of one row of one file share."""
    counts = entry.counts if entry.row in BASELINES else None
    return entry.file, entry.row, entry.ipc, entry.group, counts


def _once(entries: Sequence[Entry]) -> list[Entry]:
    """Baselines that several runs share, and rows that several files of a run hold, are one row.

    It has the students and seeds of all of them.
    """
    rows: dict[tuple[object, ...], dict[str, Entry]] = {}
    for entry in entries:
        rows.setdefault(_row_of(entry), {})[entry.student] = entry
    unique: list[dict[str, Entry]] = []
    for row in rows.values():
        same = next((known for known in unique if _same(known, row)), None)
        if same is None:
            unique.append(row)
            continue
        home, run = next(iter(same.values())), next(iter(row.values())).run
        for student, entry in row.items():
            known = same.get(student)
            if known is None or len(entry.accuracies) > len(known.accuracies):
                same[student] = replace(
                    entry, name=home.name, run=home.run, file=home.file, counts=home.counts
                )
        if run != home.run:
            same |= {s: replace(e, shared=(*home.shared, run)) for s, e in same.items()}
    return [entry for row in unique for entry in row.values()]


def _same(one: Mapping[str, Entry], other: Mapping[str, Entry]) -> bool:
    """Whether two rows are of the same images, and nothing that both hold contradicts it."""
    a, b = next(iter(one.values())), next(iter(other.values()))
    shared = a.row in BASELINES or a.run == b.run
    if not shared or (a.row, a.ipc, a.group) != (b.row, b.ipc, b.group):
        return False
    return all(_agree(e.sets, f.sets) for e in one.values() for f in other.values()) and all(
        _agree(one[s].accuracies, other[s].accuracies) for s in one.keys() & other.keys()
    )


def _agree(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether values by seed are the same, as far as both go."""
    return all(a == b for a, b in zip(one, other, strict=False))
