"""Class names: choosing some of them by name, and refusing sets that cannot be classified."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdc.arguments import one_form, require_several
from latentdc.errors import InputError, nearest
from latentdc.recipe import Data
from latentdc.recipe.subsets import imagenet_places, subset_names, wordnet_ids

# What labels are usually called.
LABEL_NAMES = ("label", "labels", "class", "class_id", "fine_label", "target", "y")


def chosen_names(names: Sequence[str], data: Data, source: str) -> list[str]:
    """The classes to keep, in their new order: all, or those of `data.classes` or `data.subset`.

    Raises:
        InputError: a chosen name that does not exist or stands twice, a subset whose classes are
            not all there, or fewer than two classes.
    """
    if data.subset is not None:
        return subset_names(names, data.subset, source)
    kept = list(names)
    if data.classes is not None:
        kept = [_existing_name(one_form(name), names) for name in data.classes]
    for name in kept:
        if name not in names:
            known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise InputError(
                f"data.classes: {source} has no class {name!r}{nearest(name, names)}; "
                f"its {len(names)} classes: {known}."
            )
    if len(set(kept)) < len(kept):
        raise InputError(f"data.classes names a class twice: {kept}.")
    require_several(kept, source)
    return kept


def _existing_name(name: str, names: Sequence[str]) -> str:
    """The class that an entry of `data.classes` names.

    All 1000 classes of ImageNet, called by WordNet id or name, can also be named by position.
    """
    if name in names:
        return name
    indices = [str(index) for index in range(len(wordnet_ids()))]
    if len(names) == len(indices) and name in indices:
        place = imagenet_places(tuple(names)).get(int(name))
        return name if place is None else names[place]
    return name


def numbered(values: Sequence[int | str | None]) -> tuple[Tensor, list[str]]:
    """(N,) class indices of labels as a source has them, -1 of None, and class names.

    Integers are named by their digits and text by itself, in ascending order.
    """
    unique = sorted({value for value in values if value is not None})
    places = {value: place for place, value in enumerate(unique)}
    labels = [-1 if value is None else places[value] for value in values]
    return torch.tensor(labels, dtype=torch.int64), [str(value) for value in unique]


def named_classes(names: Sequence[str], data: Data, source: str) -> Sequence[str]:
    """The names of a source's classes, in label order; WordNet ids for integers of ImageNet.

    Labels are ImageNet's numbers where `data.class_names` says so. All of them, 0 to 999, are taken
    for these also where the recipe chooses classes by ImageNet's names: by `data.subset`, or by
    WordNet ids in `data.classes`.

    Raises:
        InputError: `data.class_names` says so, and a label is none of these numbers.
    """
    whole = wordnet_ids()
    if data.class_names is not None:
        numbers = {str(index): name for index, name in enumerate(whole)}
        if other := [name for name in names if name not in numbers]:
            raise InputError(
                f"data.class_names=imagenet names labels from 0 to {len(whole) - 1}, and {source} "
                f"has {', '.join(map(repr, other[:3]))}; leave it out."
            )
        return [numbers[name] for name in names]
    if list(names) != [str(label) for label in range(len(whole))]:
        return names
    by_id = data.classes is not None and all(name in whole for name in data.classes)
    return whole if data.subset is not None or by_id else names


def choose_classes(
    labels: Tensor, names: Sequence[str], data: Data, source: str
) -> tuple[Tensor, tuple[str, ...], Tensor]:
    """The samples of the classes that a recipe keeps, of (N,) labels of all classes.

    Returns:
        Labels (M,) into the names of the kept classes, these names, and ascending rows (M,).
    """
    kept = chosen_names(names, data, source)
    places = {name: place for place, name in enumerate(kept)}
    relabelled = torch.tensor([places.get(name, -1) for name in names])[labels]
    rows = (relabelled >= 0).nonzero().squeeze(1)
    return relabelled[rows], tuple(kept), rows


def require_members(
    labels: Tensor,
    names: Sequence[str],
    source: str,
    advice: str = "name the classes to keep with data.classes=[...]",
) -> None:
    """Refuse a set in which a class has no image."""
    counts = torch.bincount(labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts.tolist(), strict=True) if count == 0]
    if empty:
        raise InputError(
            f"{source} has no images of {len(empty)} of its {len(names)} classes: "
            f"{', '.join(empty[:10])}; {advice}."
        )


def require_same_classes(ours: Sequence[str], theirs: Sequence[str], name: str) -> None:
    """Refuse the set `name` where its classes are not those of the test set, in their order."""
    if len(ours) != len(theirs):
        raise InputError(
            f"the {name} set has {len(ours)} classes, the test set {len(theirs)}; name the same "
            "ones in the same order with data.classes=[...]."
        )
    for label, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other:
            raise InputError(
                f"class {label} is {mine!r} in the {name} set and {other!r} in the test set; both "
                "need the same classes in the same order (data.classes=[...])."
            )
