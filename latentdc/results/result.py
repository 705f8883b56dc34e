"""`Result`: the accuracies of one student on one set under one protocol, and files of them.

The only type that holds accuracies; its file has one form for every command. Imports no torch.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from types import NoneType
from typing import TYPE_CHECKING, Any

from latentdc.arguments import path_of, require_a, require_kinds, require_shares, require_texts
from latentdc.errors import InputError
from latentdc.io import as_read_back, read_json, write_json
from latentdc.locks import locked
from latentdc.recipe import BASELINES
from latentdc.recipe.fields import show
from latentdc.recipe.labels import OWN
from latentdc.recipe.protocol import require_hash
from latentdc.results.means import deviation

if TYPE_CHECKING:
    import pandas as pd

_VERSION = 5  # of files; no released version wrote another one
UNSEEN = "unseen"  # the column of the mean over several students that no distillation used
RESULTS, EVALUATION = "results.json", "evaluation.json"  # of a run, and of later evaluations
_VALUES = ("hash", "accuracy", "top5")  # of one training
# What reading a file can raise whose values are anything that JSON has.
_BAD = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


_FIELDS: Mapping[str, Any] = {  # of a `Result`, but for accuracies, which are checked as such
    **dict.fromkeys(("set", "student", "protocol", "protocol_hash", "test"), str),
    **dict.fromkeys(("run", "counts", "data"), str | None),
    **dict.fromkeys(("settings", "preprocessing", "labels", "machine"), Mapping),
    **{"ipc": int, "classes": int, "unseen": bool},
    **{"image_bytes": int | None, "seconds": float | int | None},
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Accuracies of a student after its last step, one for each of the seeds 0, 1, ...

    Attributes:
        set: name of the set: `distilled`, the name that the user gave it, or one of `BASELINES`.
        run: run or cell of a sweep that it is of; None takes the folder that its file lies in.
        hashes: of the set that each seed trained on; all the same unless it was drawn by seed.
        ipc: images per class, of the sets that a baseline stands beside.
        classes: of the data set.
        counts: hash of the images of each class; None where all classes have as many.
        student: name of the network.
        unseen: whether the set was matched, guided and chosen without the student's network at any
            width; of baselines, whether all other sets were.
        accuracies: in [0, 1].
        top5: in [0, 1], of the right class among five; None with five classes or fewer.
        protocol: its name.
        protocol_hash: 12 hex digits of all that decides one training.
        settings: all of the protocol but `together`, its budget in steps; kept once for each hash
            of a file.
        test: hash of the test set.
        data: name of the test set.
        preprocessing: facts of how students see images.
        labels: what soft labels are made of and cost; empty where they are hard.
        image_bytes: of the images, of a set that is drawn by seed those of seed 0; None for large
            sets.
        seconds: of the distillation; None where there was none.
        machine: where it was computed: versions, device, threads, processes, precision, commit.

    Raises:
        InputError: values of another kind, accuracies that are no shares, or not one for each
            seed's set.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> kept = train.select(coreset.indices(train))
        >>> protocol = latentdc.load_protocol("quick", students=["convnet3@8"], seeds=2, steps=5)
        >>> how = latentdc.Normalization()
        >>> results = latentdc.evaluate_sets({"mine": kept}, test, protocol, normalization=how)
        >>> results[0].mean == sum(results[0].accuracies) / 2
        True
    """

    set: str
    run: str | None = None
    hashes: tuple[str, ...]
    ipc: int
    classes: int
    counts: str | None = None
    student: str
    unseen: bool = False
    accuracies: tuple[float, ...]
    top5: tuple[float, ...] | None = None
    protocol: str
    protocol_hash: str
    settings: Mapping[str, Any]
    test: str
    data: str | None = None
    preprocessing: Mapping[str, Any]
    labels: Mapping[str, Any] = field(default_factory=dict)
    image_bytes: int | None = None
    seconds: float | None = None
    machine: Mapping[str, Any]

    def __post_init__(self) -> None:
        require_kinds(self, "a Result", **_FIELDS)
        require_texts(self.hashes, "hashes of a Result")
        for name in ("accuracies", "top5"):
            if (values := getattr(self, name)) is not None:
                shares = require_shares(values, len(self.hashes), f"{name} of {show(self.set)}")
                object.__setattr__(self, name, shares)

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds (divided by n - 1), None for a single seed."""
        return deviation(self.accuracies)

    @property
    def steps(self) -> int:
        """Steps of every training."""
        return int(self.settings["steps"])

    @property
    def bytes(self) -> int | None:
        """Bytes of images, and of soft labels, stored or the set's own; None if not counted."""
        if self.image_bytes is None:
            return None
        return self.image_bytes + int(self.labels.get("label_bytes", 0))

    @property
    def conditions(self) -> tuple[str, str, str]:
        """Protocol hash, test set and preprocessing: only under the same ones numbers compare."""
        return self.protocol_hash, self.test, json.dumps(self.preprocessing, sort_keys=True)

    def is_again(self, other: "Result") -> bool:
        """Whether both are of one student on one set, as far as the seeds of both go."""
        counts = self.set not in BASELINES or self.counts == other.counts
        return (
            (self.set, self.run, self.ipc, self.student, self.conditions)
            == (other.set, other.run, other.ipc, other.student, other.conditions)
            and counts
            and all(a == b for a, b in zip(self.hashes, other.hashes, strict=False))
        )

    def begins(self, other: "Result") -> bool:
        """Whether it is of fewer seeds than one that it is again, with that one's accuracies."""
        count = len(self.accuracies)
        return count < len(other.accuracies) and other.accuracies[:count] == self.accuracies

    def with_seeds_of(self, other: "Result") -> "Result":
        """Its facts, with the trainings of another: sets, accuracies, number of seeds, machine."""
        trainings = ("hashes", "accuracies", "top5", "protocol", "settings", "machine")
        return replace(self, **{name: getattr(other, name) for name in trainings})


class Results(list[Result]):
    """What a run, a sweep, an evaluation or a file of results gives: a list of `Result`.

    Raises:
        InputError: something else is among them.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> protocol = latentdc.load_protocol("quick", students=["convnet3@8"], seeds=2, steps=5)
        >>> how = latentdc.Normalization()
        >>> results = latentdc.evaluate_sets({"full": train}, test, protocol, normalization=how)
        >>> list(results.to_frame()["seed"])
        [0, 1]
    """

    def __init__(self, results: Iterable[Result] = ()) -> None:
        if not isinstance(results, Iterable):
            raise InputError(f"Results are made of a list of Result, got {show(results)}.")
        super().__init__(results)
        for one in self:
            require_a(Result, one, "each of Results", "such as those of evaluate_sets")

    def to_frame(self) -> "pd.DataFrame":
        """A row for each training: what it is of, its seed, the hash of its set, its accuracies.

        Facts of the machine have columns `machine.*`; `preprocessing` and `settings`, of the
        protocol, are JSON text. Under one protocol rows of the same `training` repeat each other:
        their students saw the same images in the same order.
        """
        import pandas as pd

        rows = []
        for order, result in enumerate(self):
            protocol_hash, test, preprocessing = result.conditions
            shared = {
                "result": order,
                "set": result.set,
                "run": result.run,
                "ipc": result.ipc,
                "classes": result.classes,
                "counts": result.counts or "",
                "student": result.student,
                "unseen": result.unseen,
                "protocol": result.protocol,
                "protocol_hash": protocol_hash,
                "steps": result.steps,
                "data": result.data,
                "test": test,
                "preprocessing": preprocessing,
                "settings": json.dumps(result.settings, sort_keys=True),
                "labels": result.labels.get("source", "hard"),
                "bytes": result.bytes,
                "seconds": result.seconds,
                **{f"machine.{key}": value for key, value in result.machine.items()},
            }
            top5: Sequence[float | None] = result.top5 or [None] * len(result.accuracies)
            for seed, values in enumerate(zip(result.hashes, result.accuracies, top5, strict=True)):
                own = {"seed": seed, "training": f"{values[0]}/{seed}"}
                rows.append({**shared, **own, **dict(zip(_VALUES, values, strict=True))})
        return pd.DataFrame(rows)


def save(path: str | Path, results: Iterable[Result]) -> None:
    """Write a file of results, whole or not at all.

    Raises:
        InputError: a student stands there twice on one set; `merge` keeps one of the two.
    """
    path, results = path_of(path, "path"), list(results)
    if (twice := _twice(results)) is not None:
        raise InputError(f"{path}: {twice.student} on {show(twice.set)} twice; add them by merge.")
    write_json(path, to_json(results))


def merge(path: str | Path, results: Iterable[Result]) -> Results:
    """Add results to a file, in the place of those that are of the same student on the same set.

    One of the first seeds of another, with the same accuracies, leaves that one its seeds. Two sets
    of one name and different contents stand side by side.

    Returns:
        All that the file now holds.

    Raises:
        InputError: the file is none of ours.
    """
    path = path_of(path, "path")
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=True):
        known: list[Result] = load(path) if path.exists() else []
        for result in (from_json(to_json([one]))[0] for one in results):
            again = [place for place, old in enumerate(known) if result.is_again(old)]
            for old in (known[place] for place in again):
                result = result.with_seeds_of(old) if result.begins(old) else result
            known = [old for place, old in enumerate(known) if place not in again[1:]]
            at = again[0] if again else len(known)
            known[at : at + 1] = [result]
        save(path, known)
    return Results(known)


def load(path: str | Path) -> Results:
    """The results of a file, whose means are of its accuracies, and hashes of its protocols."""
    path = path_of(path, "path")
    try:
        found = from_json(read_json(path))
        for one in {each.protocol_hash: each for each in found}.values():
            require_hash(one.settings, one.protocol_hash)
        return found
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except _BAD as error:
        raise InputError(
            f"{path} is no {RESULTS} or {EVALUATION} of latentdc ({error!r}); mend or remove it."
        ) from error


def refuse_newer(path: Path) -> None:
    """Refuse to replace a file of results that a newer version wrote; a damaged one may be."""
    try:
        version = _checked("version", read_json(path)["version"])
    except _BAD:
        return
    if version > _VERSION:
        raise InputError(f"{path}: {_other_version(version)}")


def to_json(results: Iterable[Result]) -> dict[str, Any]:
    """The content of a file of results: flat rows, and each protocol once."""
    results = list(results)
    protocols = {result.protocol_hash: dict(result.settings) for result in results}
    content = {"version": _VERSION, "protocols": protocols, "results": [*map(_row, results)]}
    return dict(as_read_back(content))


def _row(result: Result) -> dict[str, Any]:
    row = {key: value for key, value in asdict(result).items() if key != "settings"}
    row |= {"steps": result.steps, "mean": result.mean, "std": result.std}
    return row if result.top5 is None else row | {"top5_mean": fmean(result.top5)}


def from_json(content: Mapping[str, Any]) -> Results:
    """The results that `to_json` wrote.

    Raises:
        InputError: they are of another version.
        ValueError, TypeError, KeyError: what `to_json` never writes.
    """
    version = _checked("version", content["version"])
    if version != _VERSION:
        raise InputError(_other_version(version))
    protocols, rows = (_checked(key, content[key]) for key in ("protocols", "results"))
    results = [_result(row, protocols) for row in rows]
    if _twice(results) is not None:
        raise ValueError("a result stands there twice")
    return Results(results)


def _twice(results: Sequence[Result]) -> Result | None:
    """The first result that another one before it is again; None where all are different."""
    pairs = ((one, other) for n, one in enumerate(results) for other in results[:n])
    return next((one for one, other in pairs if one.is_again(other)), None)


def _other_version(version: int) -> str:
    do = "install a newer one" if version > _VERSION else "remove it and run its command again"
    return f"it has version {version} and this latentdc reads {_VERSION}; {do}."


_KINDS: Mapping[str, tuple[type, ...]] = {  # of what a file holds
    **dict.fromkeys(("set", "student", "protocol", "protocol_hash", "test", "hash"), (str,)),
    **dict.fromkeys(("run", "counts", "data", "source"), (str,)),
    **dict.fromkeys(("version", "ipc", "classes", "steps", "batch"), (int,)),
    **dict.fromkeys(("image_bytes", "label_bytes", "teacher_bytes"), (int,)),
    **dict.fromkeys(("preprocessing", "labels", "machine"), (dict,)),
    **dict.fromkeys(("protocols", "settings", "views"), (dict,)),
    **dict.fromkeys(("results", "hashes", "accuracies", "top5", "teachers"), (list,)),
    **dict.fromkeys(("mean", "seconds", "teacher_accuracy"), (int, float)),
    **{"unseen": (bool,), "a fact of its machine": (str, int, float, bool, NoneType)},
}
_LEAST = {"ipc": 1, "classes": 1, "steps": 1, "image_bytes": 0, "label_bytes": 0, "seconds": 0}
_OF_TEACHERS = ("source", "teachers", "teacher_accuracy", "teacher_bytes")
_OPTIONAL = ("run", "counts", "data", "top5", "image_bytes", "seconds")


def _result(row: Mapping[str, Any], protocols: Mapping[str, Any]) -> Result:
    """A row of a file whose every value is of the kind that latentdc writes."""
    values = {each.name: row[each.name] for each in fields(Result) if each.name != "settings"}
    for key, value in values.items():
        if value is not None or key not in _OPTIONAL:
            _checked(key, value)
    _checked("label_bytes", row["labels"].get("label_bytes", 0))
    for key in () if row["labels"].get("source", OWN) == OWN else _OF_TEACHERS:
        _checked(key, row["labels"][key])
    for fact in row["machine"].values():
        _checked("a fact of its machine", fact)
    settings = _checked("settings", protocols[row["protocol_hash"]])
    for key in ("views", "labels", "batch"):
        _checked(key, settings[key])
    if _checked("steps", settings["steps"]) != row["steps"]:
        raise ValueError(f"steps is {settings['steps']} and {row['steps']}")
    hashes = tuple(_checked("hash", each) for each in row["hashes"])
    values["accuracies"] = _accuracies(row["accuracies"], row["mean"], hashes)
    if row["top5"] is not None:
        values["top5"] = _accuracies(row["top5"], row["top5_mean"], hashes)
        if any(map(float.__lt__, values["top5"], values["accuracies"])):
            raise ValueError("a top-5 accuracy is below the accuracy")
    return Result(**{**values, "hashes": hashes, "settings": settings})


def _checked(key: str, value: Any) -> Any:
    """A value of its kind, and not below its least; true and false are no numbers."""
    kinds = _KINDS[key]
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not fits:
        raise TypeError(f"{key} is {show(value)}")
    if key in _LEAST and not _LEAST[key] <= value < math.inf:
        raise ValueError(f"{key} is {value!r}")
    return value


def _accuracies(values: Sequence[object], mean: object, hashes: Sequence[str]) -> tuple[float, ...]:
    """Shares by seed, as many as sets, with the mean that is written beside them."""
    found = tuple(map(share, values))
    if not found or len(found) != len(hashes):
        raise ValueError(f"a result has {len(found)} accuracies of {len(hashes)} sets")
    if not abs(fmean(found) - _checked("mean", mean)) < 1e-9:
        raise ValueError(f"a mean is {mean!r}, and that of its values {fmean(found)!r}")
    return found


def share(value: object) -> float:
    """An accuracy as a file holds it; what is no share in [0, 1] raises a ValueError."""
    if isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"an accuracy is a share in [0, 1], not {value!r}")  # NaN neither
