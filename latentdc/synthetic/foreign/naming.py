"""Which class of the test set a name in a foreign set stands for.

Folders and columns name classes by name (`ant`, `0_ant`), by WordNet id, or by number (see
`numbers`).
"""

import json
import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from latentdc.errors import InputError, counted
from latentdc.recipe.subsets import imagenet_matches
from latentdc.synthetic.folder import folder_names
from latentdc.synthetic.foreign.numbers import (
    Numbering,
    Numbers,
    TestLabels,
    labels_of_numbers,
    listed,
    numbers_of,
)
from latentdc.synthetic.synthetic_set import SyntheticSet

# A set in the class order of the test set, and how the numbers of its classes were read: None
# where it names them.
Read = tuple[SyntheticSet, Numbering | None]


def labels_of_names(
    names: Sequence[str],
    class_names: Sequence[str],
    source: str,
    numbers: Numbers | None = None,
) -> tuple[list[int], Numbering | None]:
    """Label of the test set for each name, and how numbers were read; None for names.

    Raises:
        InputError: names that are none of its classes, classes without a name, or numbers that
            could be names as well as positions.
    """
    by_name, numbering = _by_name(names, class_names), None
    digits = all(name.isdecimal() for name in names)
    spelled = None not in by_name and not digits  # class_0 where the test set has a class_0
    if numbers_of(names) is not None and (numbers is not None or not spelled):
        best, numbering = labels_of_numbers(names, class_names, source, numbers, spelled=by_name)
    else:
        numbered = [re.fullmatch(r"[0-9]+[ _.-]+(.*[^0-9].*)", name) for name in names]  # 0_ant
        bare = [match[1] for match in numbered if match]
        spellings = [names, bare] if len(bare) == len(names) else [names]
        readings = [
            f(some, class_names) for some in spellings for f in (_by_name, imagenet_matches)
        ]
        best = max(readings, key=lambda labels: len(labels) - labels.count(None))  # the first
    surplus = [name for name, label in zip(names, best, strict=True) if label is None]
    if surplus:
        strange = [name for name in surplus if numbers_of([name]) is None]
        if len(surplus) == len(names) and len(strange) < len(names) / 2:
            surplus = strange or surplus  # logs beside 00000 to 00009
        shown = ", ".join(json.dumps(name[:40], ensure_ascii=False)[1:-1] for name in surplus[:5])
        raise InputError(
            f"{source} has {counted(len(surplus), 'class')} that the test set has not: {shown}; "
            f"its {len(class_names)} classes: {listed(class_names)}. Open the data that it was "
            "made from (data.source, data.subset, data.classes), or name its classes by these "
            f"names or by 0 to {len(class_names) - 1}."
        )
    labels = [label for label in best if label is not None]
    missing = [name for label, name in enumerate(class_names) if label not in set(labels)]
    if missing or len(set(labels)) < len(labels):
        what = f"lacks {len(missing)} of" if missing else "names one twice of"
        raise InputError(
            f"{source} {what} the test set's {len(class_names)} classes"
            f"{': ' + ', '.join(missing[:10]) if missing else ''}; name the ones that it has with "
            "data.classes=[...]."
        )
    return labels, numbering


def relabelled(
    labels: Tensor, class_names: Sequence[str], source: str, numbers: Numbers | None = None
) -> tuple[Tensor, Numbering | None]:
    """(N,) numbers of classes -> (N,) labels of the test set, and how they were read."""
    found = labels.unique().tolist()
    if len(found) != len(class_names) or found[0] < 0 or found[-1] >= 10**9:
        require_classes(labels, class_names, source)
    names = [str(number) for number in found]
    known, numbering = labels_of_numbers(names, class_names, source, numbers, spelled=None)
    if None in known:
        require_classes(labels, class_names, source)
        raise InputError(
            f"{source} has labels {found[0]} to {found[-1]}, and the test set's classes are "
            f"{listed(class_names)}."
        )
    table = torch.tensor([-1 if label is None else label for label in known])
    return table[torch.searchsorted(torch.tensor(found), labels)], numbering


def require_classes(labels: Tensor, class_names: Sequence[str], source: str) -> None:
    """Refuse labels that leave classes out or go beyond them."""
    classes = len(class_names)
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        got = f"{int(labels.min())} to {int(labels.max())}" if len(labels) else "none at all"
        raise InputError(
            f"{source} has labels {got}, and the test set's {classes} classes are 0 to "
            f"{classes - 1}; open the data that it was made from (data.source, data.subset)."
        )
    counts = torch.bincount(labels, minlength=classes).tolist()
    if empty := [name for name, count in zip(class_names, counts, strict=True) if not count]:
        raise InputError(
            f"{source} has no images of {len(empty)} of the test set's {classes} classes: "
            f"{', '.join(empty[:10])}; name the ones that it has with data.classes=[...]."
        )


def _by_name(names: Sequence[str], class_names: Sequence[str]) -> TestLabels:
    """Classes by names as the test set or `latentdc export`'s folders have them, or nearly so."""
    known = {name: label for label, name in enumerate(folder_names(class_names))}
    known |= {name: label for label, name in enumerate(class_names)}
    near = {_near(name): label for label, name in enumerate(class_names)}
    if len(near) < len(class_names) or len(set(map(_near, names))) < len(names):
        near = {}  # such as Cardigan, a dog, and cardigan, a coat
    return [known.get(name, near.get(_near(name))) for name in names]


def _near(name: str) -> str:
    """A name in lower case, without what stands between words or how accents are written."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()
