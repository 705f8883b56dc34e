"""Which column of a table holds the images, which the labels, and what its classes are called."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from datasets import ClassLabel, Image, Value
from torch import Tensor

from latentdc.config import nearest
from latentdc.data.classes import one_form
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
    found = [name for name, feature in features.items() if _is_image(feature)]
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


def with_images(features: Mapping[str, Any]) -> dict[str, Any]:
    """The features, with images found where a file has lost the Hub's note of their type.

    Where no column is of type Image, structs with `bytes` are images; where there is none of them
    either, columns of plain bytes.
    """
    kinds: list[Callable[[Any], bool]] = [_is_image, _is_struct_of_bytes, _is_bytes]
    for kind in kinds:
        if found := [name for name, feature in features.items() if kind(feature)]:
            return {**features, **{name: Image() for name in found}}
    return dict(features)


def class_labels(feature: Any, values: list[Any], name: str) -> tuple[Tensor, list[str]]:
    """(N,) indices and class names of a label column; -1 where a row has no label.

    A row has none where its value is missing, negative (-1 or "-1") or empty text. A ClassLabel
    brings its names; integers are named by their digits and strings by themselves, in ascending
    order.

    Raises:
        InputError: labels beyond the names of a ClassLabel.
    """
    given = [None if _is_missing(value) else value for value in values]
    given = [one_form(value) if isinstance(value, str) else value for value in given]
    if isinstance(feature, ClassLabel):
        names = [one_form(name) for name in feature.names]
        beyond = Counter(value for value in given if value is not None and value >= len(names))
        if beyond:
            listed = ", ".join(str(label) for label in sorted(beyond)[:5])
            raise InputError(
                f"{name}: {beyond.total()} of {len(values)} rows have labels beyond its "
                f"{len(names)} class names ({listed}{', ...' if len(beyond) > 5 else ''}); mend "
                "its class names or leave these rows out."
            )
        numbers = [-1 if value is None else value for value in given]
        return torch.tensor(numbers, dtype=torch.int64), names
    unique = sorted({value for value in given if value is not None})
    places = {value: place for place, value in enumerate(unique)}
    labels = torch.tensor([places.get(value, -1) for value in given], dtype=torch.int64)
    return labels, [str(value) for value in unique]


def _is_missing(value: Any) -> bool:
    """Whether a row has no label: none, NaN, below zero (-1 or "-1"), or empty text."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*(-[0-9]+\s*)?", value) is not None
    return value is None or value != value or value < 0


def _is_label(feature: Any) -> bool:
    if isinstance(feature, ClassLabel):
        return True
    return isinstance(feature, Value) and bool(
        re.fullmatch(r"u?int\d+|(large_)?string|string_view", feature.dtype)
    )


def _is_image(feature: Any) -> bool:
    return isinstance(feature, Image)


def _is_struct_of_bytes(feature: Any) -> bool:
    return isinstance(feature, dict) and _is_bytes(feature.get("bytes"))


def _is_bytes(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary", "binary_view")


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
        wants = {"label": " (whole numbers or text)", "image": ""}[kind]
        raise InputError(
            f"data.{kind}: column {named!r} of {source} holds no {kind}s{wants}; {columns}."
        )
    if named is not None:
        hint = nearest(named, features)
        raise InputError(f"data.{kind}: {source} has no column {named!r}{hint}; {columns}.")
    count = f"{len(found)} {kind} columns ({', '.join(found)})" if found else f"no {kind} column"
    advice = advice or f"name it with data.{kind}=..."
    raise InputError(f"{source} has {count}; {advice}; {columns}.")


def _type(feature: Any) -> str:
    return str(feature.dtype) if isinstance(feature, Value) else type(feature).__name__
