"""Which column of a table holds the images, which the labels, and what its classes are called."""

from collections.abc import Mapping
from typing import Any

import torch
from datasets import ClassLabel, Image, Value
from torch import Tensor

from latentdc.config import nearest
from latentdc.errors import InputError

_LABEL_NAMES = ("label", "labels", "class", "class_id", "fine_label", "target", "y")


def image_column(
    features: Mapping[str, Any], named: str | None, source: str, advice: str = ""
) -> str:
    """The column of feature type Image.

    Args:
        features: by column.
        named: the user's choice, None without.
        source: for messages.
        advice: what to do where none or several are found; by default `data.image`.

    Raises:
        InputError: the named one is unknown or holds something else; none or several were found.
    """
    found = [name for name, feature in features.items() if isinstance(feature, Image)]
    return _one("image", found, named, features, source, advice)


def label_column(
    features: Mapping[str, Any], named: str | None, source: str, advice: str = ""
) -> str:
    """The ClassLabel column, else an integer or string column with a usual name.

    See `image_column`.

    Raises:
        InputError: the named one is unknown or holds something else; none or several were found.
    """
    usable = [name for name, feature in features.items() if _is_label(feature)]
    if named is not None:
        return _one("label", usable, named, features, source, advice)
    classes = [name for name in usable if isinstance(features[name], ClassLabel)]
    usual = [name for name in usable if name in _LABEL_NAMES]
    return _one("label", classes or usual, None, features, source, advice)


def class_labels(feature: Any, values: list[Any], name: str) -> tuple[Tensor, list[str]]:
    """(N,) indices and class names of a label column; -1 where a ClassLabel says "no label".

    A ClassLabel brings its names; integers are named by their digits and strings by themselves, in
    ascending order.
    """
    if any(value is None for value in values):
        raise InputError(f"{name}: row {values.index(None)} has no label.")
    if isinstance(feature, ClassLabel):
        return torch.tensor(values, dtype=torch.int64), list(feature.names)
    unique = sorted(set(values))
    places = {value: place for place, value in enumerate(unique)}
    labels = torch.tensor([places[value] for value in values], dtype=torch.int64)
    return labels, [str(value) for value in unique]


def _is_label(feature: Any) -> bool:
    if isinstance(feature, ClassLabel):
        return True
    return isinstance(feature, Value) and ("int" in feature.dtype or feature.dtype == "string")


def _one(
    kind: str,
    found: list[str],
    named: str | None,
    features: Mapping[str, Any],
    source: str,
    advice: str,
) -> str:
    columns = f"its columns: {', '.join(f'{name} ({_type(f)})' for name, f in features.items())}"
    if named is None and len(found) == 1:
        return found[0]
    if named in found:
        return named
    if named is not None and named in features:
        raise InputError(f"data.{kind}: column {named!r} of {source} holds no {kind}s; {columns}.")
    if named is not None:
        hint = nearest(named, features)
        raise InputError(f"data.{kind}: {source} has no column {named!r}{hint}; {columns}.")
    count = f"{len(found)} {kind} columns ({', '.join(found)})" if found else f"no {kind} column"
    advice = advice or f"name it with data.{kind}=..."
    raise InputError(f"{source} has {count}; {advice}; {columns}.")


def _type(feature: Any) -> str:
    return str(feature.dtype) if isinstance(feature, Value) else type(feature).__name__
