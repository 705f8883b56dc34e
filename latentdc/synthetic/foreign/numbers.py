"""What the class numbers of a foreign set count.

Plain digits (a folder `10`, a name in a column) are a name where the test set has a class of that
name. Padded numbers (`00010` of RDED), `new010` of SRe2L, `class_10` and the labels of tensors are
written by code that counts: they may be names of classes too, or positions in their order. Where
both would fit and differ, as with the folders 0 to 11, which sort as 0, 1, 10, 11, 2, ..., only the
user knows; nor can positions among the folders 1 to 12 be told without asking. Other orders, such
as that of a paper's class list, are kept as readings that `check` tries.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from latentdc.errors import InputError
from latentdc.ranks import say
from latentdc.recipe.subsets import SUBSETS, imagenet_index, wordnet_ids

Numbers = Literal["names", "positions"]
TestLabels = list[int | None]  # a label of the test set, or None, for each number

NAMES: Final = "names"
POSITIONS: Final = "positions"
_IMAGENET = "positions among ImageNet's 1000 classes"
_IMAGENET_ORDER = "positions in the order of WordNet ids"
_NATURAL = "positions in numeric order"
_NUMBER = re.compile(r"(?:(?:new|class|cls|label|category|c)[ _-]?)?([0-9]{1,9})", re.IGNORECASE)
_SHOWN = 20  # class names that a message still writes out


@dataclass(frozen=True)
class Numbering:
    """How the numbers of a set were read, and how else they could be.

    `others` has for each other reading the label that it gives to what has label 0, 1, ... now, and
    `advice` what to say to have it.
    """

    what: str  # the reading, such as `names` or `positions`
    given: bool  # whether the user said so
    others: Mapping[str, tuple[int, ...]]
    advice: Mapping[str, str]


def numbers_of(names: Sequence[str]) -> list[int] | None:
    """What the names count, None unless all are numbers."""
    found = [_NUMBER.fullmatch(name) for name in names]
    return [int(match[1]) for match in found if match] if all(found) else None


def labels_of_numbers(
    names: Sequence[str],
    class_names: Sequence[str],
    source: str,
    numbers: Numbers | None,
    *,
    spelled: TestLabels | None,
) -> tuple[TestLabels, Numbering | None]:
    """The label of each number, as far as it has one, and how the numbers were read.

    `names` are the numbers as the set spells them, `spelled` what they stand for character for
    character, None where there is no spelling; `numbers` is the user's answer.

    Raises:
        InputError: both answers are possible and differ, or the user's is not, or the test set
            holds ImageNet's classes in an order of its own.
    """
    counted = numbers_of(names)
    assert counted is not None, "only numbers are counted"
    readings = _readings(counted, names, class_names)
    as_spelled = spelled is not None and _fits(spelled, class_names)
    if spelled is not None and as_spelled:
        readings[NAMES] = spelled
    what = numbers or (NAMES if as_spelled else _plain_reading(readings))
    if what == NAMES and NAMES not in readings:
        raise InputError(
            f"--numbers names: {source} numbers its classes, and the names of the test set's are "
            f"not different numbers ({listed(class_names)}); say --numbers positions, or leave it "
            "out."
        )
    if what is None:
        pairs = zip(readings[NAMES], readings[POSITIONS], strict=True)
        label = min(by_position or 0 for by_name, by_position in pairs if by_name != by_position)
        here = readings[POSITIONS].index(label)
        called = class_names[readings[NAMES][here] or 0]
        raise InputError(
            f"{source} numbers its classes, and the test set's are numbers in another order "
            f"({listed(class_names)}): is {names[here]} the class called {called}, or the one at "
            f"position {counted[here]}, counted from 0, which is {class_names[label]}? Say "
            "--numbers names or --numbers positions."
        )
    labels = readings[what]
    if not _fits(labels, class_names):
        return labels, None
    if what == POSITIONS and numbers is None:
        _require_sorted(readings, class_names, source)
    if what == POSITIONS and 0 not in counted:
        one = names[labels.index(0)]
        say("note", f"{source} numbers its classes from 1: its {one} is {class_names[0]}.")
    return labels, _numbering(what, numbers is not None, readings, counted, class_names)


def _plain_reading(readings: Mapping[str, TestLabels]) -> str | None:
    """The reading that is left; None where it is open."""
    fitting = [
        what
        for what in (NAMES, POSITIONS, _IMAGENET)
        if what in readings and _fits(readings[what], range(len(readings[what])))
    ]
    if {NAMES, POSITIONS} <= set(fitting) and readings[NAMES] != readings[POSITIONS]:
        return None
    if fitting:
        return fitting[0]
    partly = [what for what in (NAMES, POSITIONS) if what in readings]
    return min(partly, key=lambda what: readings[what].count(None))  # of equals, the first


def _fits(labels: TestLabels, class_names: Sequence[object]) -> bool:
    """Whether every class has one number."""
    known = [-1 if label is None else label for label in labels]
    return sorted(known) == list(range(len(class_names)))


def _readings(
    counted: Sequence[int], names: Sequence[str], class_names: Sequence[str]
) -> dict[str, TestLabels]:
    """What the numbers could count: `positions` always, the others where they fit."""
    classes = len(class_names)
    labels = range(classes)
    of_imagenet = [imagenet_index(name, label) for label, name in enumerate(class_names)]
    integers = _integers(class_names)
    # 1 to 1000 of ImageNet count in the order of its development kit, 10 of SVHN is a 0.
    no_numbers = integers is None and classes < len(wordnet_ids())
    first = int(no_numbers and sorted(counted) == list(range(1, classes + 1)))
    at = [n - first for n in counted]

    def in_order(order: Sequence[int]) -> TestLabels:
        return [order[n] if n < classes else None for n in at]

    found: dict[str, TestLabels] = {POSITIONS: in_order(labels)}
    if integers is not None:
        known = {integer: label for label, integer in enumerate(integers)}
        found[NAMES] = [known.get(n) for n in counted]
    elif None not in of_imagenet and len(set(of_imagenet)) == classes:
        indices = [index for index in of_imagenet if index is not None]
        label_of = {index: label for label, index in enumerate(indices)}
        found[_IMAGENET] = [label_of.get(n) for n in counted]
        found[_IMAGENET_ORDER] = in_order(sorted(labels, key=lambda k: indices[k]))
        for name, members in SUBSETS.items():
            if sorted(members) == sorted(indices):
                order = [label_of[index] for index in members]
                found[f"positions in the class list of {name}"] = in_order(order)
    by_name = sorted(labels, key=lambda k: class_names[k])
    found["positions in the order of sorted class names"] = in_order(by_name)
    natural = sorted(labels, key=lambda k: _with_numbers(class_names[k]))
    if natural != by_name:
        found[_NATURAL] = in_order(natural)
    if sorted(counted) == list(labels):
        rank = {name: position for position, name in enumerate(sorted(names))}
        found["positions of its names as they sort, 10 before 2"] = [rank[name] for name in names]
    return {
        what: theirs
        for what, theirs in found.items()
        if what in (NAMES, POSITIONS) or _fits(theirs, class_names)
    }


def _integers(class_names: Sequence[str]) -> list[int] | None:
    """What the test set's names count, 0 and 10 as well as class_0 and class_10; None if nothing.

    Those of WordNet count something else.
    """
    found = [re.fullmatch(r"([^0-9]*)([0-9]{1,9})", name) for name in class_names]
    matches = [match for match in found if match]
    integers = [int(match[2]) for match in matches]
    alike = len({match[1] for match in matches}) == 1
    if not alike or len(matches) < len(class_names) or len(set(integers)) < len(class_names):
        return None
    return None if all(name in wordnet_ids() for name in class_names) else integers


def _with_numbers(name: str) -> list[tuple[int, str]]:
    """Key for sorting names whose numbers count as numbers, so that a10 comes after a2."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]


def _numbering(
    what: str,
    given: bool,
    readings: Mapping[str, TestLabels],
    counted: Sequence[int],
    class_names: Sequence[str],
) -> Numbering:
    mine = readings[what]
    others: dict[str, tuple[int, ...]] = {}
    advice: dict[str, str] = {}
    for other, theirs in readings.items():
        if not _fits(theirs, class_names):
            continue
        new = dict(zip(mine, theirs, strict=True))
        labels = tuple(int(new[label] or 0) for label in range(len(class_names)))
        if labels == tuple(range(len(class_names))) or labels in others.values():
            continue
        others[other] = labels
        by_number = dict(zip(counted, theirs, strict=True))
        order = [class_names[by_number[n] or 0] for n in sorted(by_number)]
        plain = other in (NAMES, POSITIONS)
        advice[other] = f"--numbers {other}" if plain else classes_advice(order)
    return Numbering(what, given, others, advice)


def classes_advice(order: Sequence[str]) -> str:
    """What to say so that number k is the k-th of these classes."""
    shown = [name if re.fullmatch(r"[\w.-]+", name) else json.dumps(name) for name in order]
    few = shown if len(shown) <= _SHOWN else [*shown[:3], "..."]
    known = all(imagenet_index(name, k) is not None for k, name in enumerate(order))
    chosen = " data.subset=null" if known else ""
    return f"'data.classes=[{','.join(few)}]'{chosen} --numbers positions"


def listed(class_names: Sequence[str]) -> str:
    """The first class names."""
    return ", ".join(class_names[:4]) + (", ..." if len(class_names) > 4 else "")


def _require_sorted(
    readings: Mapping[str, TestLabels], class_names: Sequence[str], source: str
) -> None:
    """Positions count sorted classes: by WordNet id in ImageNet, by number where names hold one."""
    for other, called in (
        (_IMAGENET_ORDER, "WordNet ids"),
        (_NATURAL, "the numbers in their names"),
    ):
        theirs = readings.get(other, readings[POSITIONS])
        if theirs == readings[POSITIONS]:
            continue
        pairs = zip(readings[POSITIONS], theirs, strict=True)
        ranked = sorted((now or 0, then or 0) for now, then in pairs)
        order = [class_names[label] for _, label in ranked]
        raise InputError(
            f"{source} numbers its classes, and the test set's stand in another order than that of "
            f"{called} ({listed(class_names)}); for ascending ones say {classes_advice(order)}, "
            "for the order of the test set as it stands --numbers positions."
        )
