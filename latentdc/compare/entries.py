"""Read results.json and evaluation.json of any runs, one `Entry` for each set and student."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentdc.compare.names import named_apart
from latentdc.errors import InputError
from latentdc.recipe import BASELINES
from latentdc.synthetic import folder as layout

FILES = ("results.json", "evaluation.json")
TOP1, TOP5 = "accuracies", "top5_accuracies"  # of a row


@dataclass(frozen=True)
class Entry:
    """The accuracies of one student on one set under one protocol.

    Attributes:
        name: of the set, different from every other set's in a comparison.
        row: its kind: one of `BASELINES`, or the name that its own table gives it.
        run: folder of its results.
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
    """

    name: str
    row: str
    run: Path
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
        given: run folders, results.json or evaluation.json.
        values: key of a row's accuracies, `TOP1` or `TOP5`; rows without it are left out.

    Raises:
        InputError: nothing to read, or a file that is none of ours.
    """
    found: dict[tuple[object, ...], Entry] = {}
    files = [file for name in given for file in _files(Path(name).expanduser())]
    for entry in _preprocessed([entry for path in files for entry in _read(path, values)]):
        counts = entry.counts if entry.row in BASELINES else None
        found[entry.run, entry.row, entry.ipc, entry.student, entry.group, counts] = entry
    unique: dict[tuple[object, ...], Entry] = {}
    for entry in found.values():
        unique.setdefault(_content(entry), entry)
    if not unique and values == TOP5:
        raise InputError(
            "no row of these files holds top-5 accuracies: they are of five classes or fewer, or "
            "were trained by an older latentdc; leave --top5 out."
        )
    return named_apart(list(unique.values()))


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else [path / name for name in FILES if (path / name).is_file()]
    if not files:
        raise InputError(
            f"{path} holds no {' or '.join(FILES)}; give run folders or these files. "
            "latentdc evaluate writes one."
        )
    return files


def _read(path: Path, values: str) -> list[Entry]:
    try:
        content = json.loads(path.read_text())
        run = path.resolve().parent
        run = run.parent if run.name == "synthetic" else run
        rows = [row for row in content["rows"] if values == TOP1 or values in row]
        return [_entry(row, content, run, values) for row in rows]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no results.json or evaluation.json of latentdc ({error!r})."
        ) from error


def _entry(row: Mapping[str, Any], content: Mapping[str, Any], run: Path, values: str) -> Entry:
    """A row with what results.json says once for all rows, and evaluation.json in each."""
    every = {**content, **row}
    digest = every["protocol_hash"]
    settings = content["protocols"][digest] if "protocols" in content else None
    facts = every.get("preprocessing")
    unseen = row["unseen"] if "unseen" in row else row["student"] in content["unseen"]
    return Entry(
        name=run.name if row["set"] == "distilled" else row["set"],
        row=row["set"],
        run=run,
        ipc=int(every["ipc"]),
        student=row["student"],
        accuracies=tuple(map(float, row[values])),
        sets=tuple(row["sets"]),
        unseen=bool(unseen),
        protocol=every["protocol"],
        settings=content["protocol_settings"] if settings is None else settings,
        protocol_hash=digest,
        test=every.get("test") or _test_name(run),
        preprocessing=None if facts is None else json.dumps(facts, sort_keys=True),
        counts=every.get("counts"),
        brought=row.get("labels", {}).get("source") == "brought",
        size=_size(row, run),
    )


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
            facts = json.loads(path.read_text())
            return f"{facts.get('dataset')}, {facts.get('resolution')} px"
    return "not recorded"


def _size(row: Mapping[str, Any], run: Path) -> int | None:
    """Bytes of images and soft labels: as they were counted when the row was scored.

    Rows of before that: of the run's set as it lies there, else as `latentdc measure` found.
    """
    labels = int(row.get("labels", {}).get("label_bytes", 0))
    if "image_bytes" in row:
        return int(row["image_bytes"]) + labels
    if row["set"] == "distilled":
        for folder in (run / "synthetic", run):
            if layout.is_set(folder):
                from latentdc.synthetic.storage import stored_image_bytes

                return stored_image_bytes(folder) + labels
    path = run / "metrics.json"
    known = json.loads(path.read_text())["sets"].get(row["set"]) if path.is_file() else None
    if known is None:
        return None
    sizes = known["storage"]
    return int(sizes.get("images/float32", sizes["images/png"])) + labels


def _content(entry: Entry) -> tuple[object, ...]:
    """What makes two rows the same one, in whichever runs they stand."""
    name = entry.row if entry.row in BASELINES else entry.run
    return name, entry.row, entry.sets, entry.accuracies, entry.student, entry.group, entry.ipc
