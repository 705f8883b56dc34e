"""`Score`: the accuracies of one set under one protocol."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from latentdc.errors import InputError
from latentdc.evaluate.protocol import EvalProtocol

TOP1, TOP5 = "accuracies", "top5_accuracies"  # of a row in a file of results
MEANS = {TOP1: "mean", TOP5: "top5"}


@dataclass(frozen=True)
class Score:
    """Accuracy of each student and seed on the whole test set.

    Attributes:
        protocol: with its budget in steps.
        accuracies: by student, in [0, 1], one for each of the seeds 0, 1, ...
        sets: hash of the set that each seed trained on; all the same unless it was drawn by seed.
        labels: what soft labels are made of and cost, in JSON's types; empty where they are hard.
        top5: like `accuracies`, of the right class among five; a student is absent where it is not
            known (five classes or fewer, or trained before it was counted).
    """

    protocol: EvalProtocol
    accuracies: Mapping[str, tuple[float, ...]]
    sets: tuple[str, ...]
    labels: Mapping[str, object] = field(default_factory=dict)
    top5: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def mean(self, student: str) -> float:
        """Mean over seeds.

        Raises:
            InputError: the student was not trained.
        """
        return statistics.fmean(self._of(student))

    def std(self, student: str) -> float | None:
        """Sample standard deviation over seeds (divided by n - 1), None for a single seed."""
        return spread(self._of(student))

    def _of(self, student: str) -> tuple[float, ...]:
        if student not in self.accuracies:
            known = ", ".join(self.accuracies)
            raise InputError(f"the score has no student {student!r}; it has {known}.")
        return self.accuracies[student]

    def over(self, students: list[str]) -> tuple[float, ...]:
        """Mean over several students, for each seed."""
        by_seed = zip(*(self.accuracies[student] for student in students), strict=True)
        return tuple(statistics.fmean(values) for values in by_seed)

    @property
    def label_bytes(self) -> int:
        """Bytes of the soft labels that are stored or that the set brings; 0 without."""
        return int(str(self.labels.get("label_bytes", 0)))

    def to_json(self) -> dict[str, Any]:
        """As JSON's types; `from_json` reads it back."""
        return {
            "protocol": asdict(self.protocol),
            "protocol_hash": self.protocol.hash,
            "accuracies": {student: list(values) for student, values in self.accuracies.items()},
            "mean": {student: self.mean(student) for student in self.accuracies},
            "std": {student: self.std(student) for student in self.accuracies},
            "sets": list(self.sets),
            "labels": dict(self.labels),
            "top5": {student: list(values) for student, values in self.top5.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Score":
        """The score that `to_json` wrote."""
        return cls(
            protocol=EvalProtocol.from_json(content["protocol"]),
            accuracies={k: tuple(values) for k, values in content["accuracies"].items()},
            sets=tuple(content["sets"]),
            labels=content["labels"],
            top5={k: tuple(values) for k, values in content.get("top5", {}).items()},
        )


def accuracies_of(row: Mapping[str, Any], values: str = TOP1) -> tuple[float, ...]:
    """By seed, of a row of a file of results.

    Args:
        row: of `Table.to_json`.
        values: `TOP1` or `TOP5`.

    Raises:
        ValueError: a value is no share, or their number is not that of sets, or their mean not the
            row's.
        KeyError, TypeError: it is no such row.
    """
    found, mean = tuple(map(share, row[values])), row[MEANS[values]]
    if not found or len(found) != len(row["sets"]):
        raise ValueError(f"a row has {len(found)} accuracies of {len(row['sets'])} sets")
    if not abs(statistics.fmean(found) - mean) < 1e-9:
        raise ValueError(
            f"the {MEANS[values]} of a row is {mean!r}, and that of its accuracies is "
            f"{statistics.fmean(found)!r}"
        )
    return found


def share(value: object) -> float:
    """An accuracy as a file holds it.

    Raises:
        ValueError: it is none: no number, or outside of [0, 1].
    """
    if isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"an accuracy is a share in [0, 1], not {value!r}")  # NaN neither


def spread(values: tuple[float, ...]) -> float | None:
    """Sample standard deviation (divided by n - 1), None for a single value."""
    return statistics.stdev(values) if len(values) > 1 else None
