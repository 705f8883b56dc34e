"""`Group`: the sets whose numbers may stand in one column."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentdc.compare.entries import Entry


@dataclass(frozen=True)
class Line:
    """One set in a group.

    Attributes:
        name: of the set.
        row: its kind, as in `Entry`.
        ipc: images per class.
        size: bytes, None where they are not known.
        accuracies: by student, then by seed.
    """

    name: str
    row: str
    ipc: int
    size: int | None
    accuracies: dict[str, tuple[float, ...]]

    def over(self, students: Sequence[str]) -> tuple[float, ...] | None:
        """Mean over students for each seed that all of them have; None where one is missing."""
        found = [self.accuracies.get(student, ()) for student in students]
        if not found or not all(found):
            return None
        return tuple(sum(values) / len(values) for values in zip(*found, strict=False))


@dataclass(frozen=True)
class Group:
    """Sets under one protocol and preprocessing, tested on one test set.

    Attributes:
        protocol: its name, or names.
        protocol_hash: of all that decides one training.
        test: what they were tested on.
        preprocessing: facts of how students see images, as JSON; None where they are not known.
        steps: of every training.
        students: in the order of their first appearance.
        unseen: those that no set of the group was distilled with.
        lines: one for each set.
    """

    protocol: str
    protocol_hash: str
    test: str
    preprocessing: str | None
    steps: int
    students: tuple[str, ...]
    unseen: tuple[str, ...]
    lines: tuple[Line, ...]


def grouped(entries: Sequence[Entry]) -> list[Group]:
    """Groups in the order of their first entry."""
    keys = dict.fromkeys(entry.group for entry in entries)
    return [_group([entry for entry in entries if entry.group == key]) for key in keys]


def _group(entries: Sequence[Entry]) -> Group:
    seen = {entry.student for entry in entries if not entry.unseen}
    students = dict.fromkeys(entry.student for entry in entries)
    sets = dict.fromkeys((entry.name, entry.ipc) for entry in entries)
    return Group(
        protocol=" or ".join(dict.fromkeys(entry.protocol for entry in entries)),
        protocol_hash=entries[0].protocol_hash,
        test=entries[0].test,
        preprocessing=entries[0].preprocessing,
        steps=entries[0].settings["steps"],
        students=tuple(students),
        unseen=tuple(student for student in students if student not in seen),
        lines=tuple(
            _line([entry for entry in entries if (entry.name, entry.ipc) == key]) for key in sets
        ),
    )


def _line(entries: Sequence[Entry]) -> Line:
    first = entries[0]
    values = {entry.student: entry.accuracies for entry in entries}
    size = next((entry.size for entry in entries if entry.size is not None), None)
    return Line(first.name, first.row, first.ipc, size, values)
