"""Tables of images and labels: which columns hold them, and what a row says."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Image, Value
from datasets import config as datasets_config
from huggingface_hub import constants
from torch import Tensor

from latentdc.arguments import one_form
from latentdc.data.classes import LABEL_NAMES, numbered
from latentdc.data.decode import in_mode
from latentdc.data.encoded import EncodedSplit
from latentdc.data.files import Split, chosen_split, fingerprint_and_change
from latentdc.data.hub import open_tables
from latentdc.data.parquet import Entry, SampleTable
from latentdc.errors import InputError, in_short, nearest
from latentdc.recipe import Data


def table_split(data: Data, split: Split) -> EncodedSplit:
    """The encoded images of one split, of the classes that `data` keeps.

    Raises:
        InputError: data set not found or no network; unknown configuration, split, column or class;
            rows without a label.
    """
    tables = open_tables(data)
    chosen = chosen_split(data, split, tables, lambda n: _unlabelled(data, tables[n](), n))
    table = tables[chosen]()
    name, may_read = f"{data.source} {chosen}", _own_files(table, data)
    whole = encoded_table(table, name, data.image, data.label, may_read=may_read)
    return whole.choose_classes(data)


def encoded_table(
    table: SampleTable,
    name: str,
    image: str | None = None,
    label: str | None = None,
    *,
    advice: str = "",
    may_read: Callable[[Path], bool] = lambda path: False,
) -> EncodedSplit:
    """All rows of a table, each with an image and a label, in columns that None finds.

    `advice` is what to do where none or several fit; `may_read` is whether the image of a row may
    lie in a file that the row names.

    Raises:
        InputError: the named column is unknown or holds something else; none or several were found;
            rows without a label.
    """
    image, read = _images(table, name, image, advice, may_read)
    labels, names = _labels(table, name, label, advice)
    if missing := int((labels < 0).sum()):
        raise InputError(
            f"{name}: {missing} of {len(labels)} rows have no label, first row "
            f"{int(labels.argmin())}; leave such rows out, or name another split."
        )
    # `datasets` makes new arrow files when its data set changes.
    files, changed = fingerprint_and_change(table.files)
    return EncodedSplit(
        name=name,
        labels=labels,
        class_names=tuple(names),
        fingerprint=f"{files} {image} {label}",
        changed=changed,
        read=read,
        locate=lambda row: f"{name}, row {row}",
    )


def _unlabelled(data: Data, table: SampleTable, split: str) -> str | None:
    """Why a split is none to test on: competitions publish theirs without labels or with -1."""
    try:
        labels, _ = _labels(table, f"{data.source} {split}", data.label)
    except InputError as error:
        if data.label is not None and data.label not in table.features:
            return f"has no column {data.label}"
        if "no label column" in str(error):
            return "has no label column"
        raise
    return "has no labels" if bool((labels < 0).all()) else None


def _own_files(table: SampleTable, data: Data) -> Callable[[Path], bool]:
    """Which files rows may name: those of a Hub repository of images that `datasets` downloaded.

    Rows of any other table name files of their author's choice, and none of them is read.
    """
    if not table.names_files or Path(data.source).is_dir():
        return lambda path: False
    homes = [constants.HF_HUB_CACHE, datasets_config.HF_DATASETS_CACHE]
    roots = [Path(home).resolve() for home in homes]
    return lambda path: path.is_file() and any(path.resolve().is_relative_to(r) for r in roots)


# ---- Images ----


def _images(
    table: SampleTable,
    source: str,
    named: str | None,
    advice: str,
    may_read: Callable[[Path], bool],
) -> tuple[str, Callable[[int], bytes]]:
    """What is read of which column, and what gives the encoded image of a row.

    OSError where a row has none.

    The column has the feature type Image. Where a file has lost the Hub's note of types, structs
    with `bytes` are images; where there is none of them either, columns of plain bytes.
    """
    features = dict(table.features)
    for kind in (_is_image, _is_struct_of_bytes, _is_bytes):
        if found := [name for name, feature in features.items() if kind(feature)]:
            features |= {name: Image() for name in found}
            break
    column = _one("image", found, named, features, source, advice)
    mode = getattr(table.features[column], "mode", None)  # to which `datasets` brings its images
    try:
        entry_of = table.images(column)
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"{source}: cannot read the images of column {column!r}: {in_short(error, None)}."
        ) from error

    def read(row: int) -> bytes:
        content = content_of(entry_of(row) or {})
        return content if mode in (None, "RGB") else in_mode(content, mode)

    def content_of(entry: Entry) -> bytes:
        if entry.get("bytes") is not None:
            return bytes(entry["bytes"])
        if entry.get("path") is None:
            raise OSError("the image is missing")
        if may_read(path := Path(entry["path"])):
            return path.read_bytes()
        raise OSError(
            f"the row holds no image but the name of a file ({entry['path'][:100]!r}), which is "
            "not read; write the table with the images inside (push_to_hub of `datasets`)"
        )

    return column if mode in (None, "RGB") else f"{column} in {mode}", read


def _is_image(feature: Any) -> bool:
    return isinstance(feature, Image)


def _is_struct_of_bytes(feature: Any) -> bool:
    return isinstance(feature, dict) and _is_bytes(feature.get("bytes"))


def _is_bytes(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary", "binary_view")


# ---- Labels ----


def _labels(
    table: SampleTable, source: str, named: str | None, advice: str = ""
) -> tuple[Tensor, list[str]]:
    """(N,) class indices, -1 where a row has no label, and class names.

    The column is a ClassLabel, else one of integers or text with a usual name. A ClassLabel brings
    its names; integers are named by their digits and text by itself, in ascending order. A row has
    no label where its value is missing, negative (-1 or "-1") or empty text.
    """
    features = table.features
    found = [name for name, feature in features.items() if _is_label(feature)]
    if named is None:
        classes = [name for name in found if isinstance(features[name], ClassLabel)]
        found = classes or [name for name in found if name in LABEL_NAMES]
    column = _one("label", found, named, features, source, advice)
    values = table.column(column)
    given = [None if _is_missing(value) else value for value in values]
    given = [one_form(value) if isinstance(value, str) else value for value in given]
    if isinstance(features[column], ClassLabel):
        names = [one_form(name) for name in features[column].names]
        beyond = Counter(value for value in given if value is not None and value >= len(names))
        if beyond:
            listed = ", ".join(str(label) for label in sorted(beyond)[:5])
            raise InputError(
                f"{source}: {beyond.total()} of {len(values)} rows have labels beyond its "
                f"{len(names)} class names ({listed}{', ...' if len(beyond) > 5 else ''}); mend "
                "its class names or leave these rows out."
            )
        numbers = [-1 if value is None else value for value in given]
        return torch.tensor(numbers, dtype=torch.int64), names
    return numbered(given)


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*(-[0-9]+\s*)?", value) is not None
    return value is None or value < 0


def _is_label(feature: Any) -> bool:
    if isinstance(feature, ClassLabel):
        return True
    return isinstance(feature, Value) and bool(
        re.fullmatch(r"u?int\d+|(large_)?string|string_view", feature.dtype)
    )


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
