"""Tables of images and labels: Hub data sets, and local folders in the Hub's layout."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import ClassLabel, Image, Value
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor

from latentdc import ranks
from latentdc.data.cache import EncodedSplit
from latentdc.data.card import read_card
from latentdc.data.classes import choose_classes, named_classes, one_form
from latentdc.data.files import TEST_SPLITS, files_fingerprint
from latentdc.data.tables import Tables, local_tables
from latentdc.errors import InputError, is_full
from latentdc.ranks import note
from latentdc.recipe import Data
from latentdc.recipe.fields import nearest

_LABEL_NAMES = ("label", "labels", "class", "class_id", "fine_label", "target", "y")


def hub_split(data: Data, split: str | None) -> EncodedSplit:
    """The encoded images of one split; null looks for a test split that has labels.

    Raises:
        InputError: data set not found or no network; unknown configuration, split, column or class;
            rows without a label.
    """
    tables = _tables(data)
    if split is None:
        split = _test_split(data, tables)
    if split not in tables:
        hint = nearest(split, tables)
        raise InputError(
            f"{data.source} has no split {split!r}{hint}; its splits: {', '.join(tables)}."
        )
    name = f"{data.source} {split}"
    table = tables[split]()
    image = image_column(with_images(table.features), data.image, name)
    labels, names = _labels(data, table, name)
    missing = labels < 0
    if bool(missing.any()):
        raise InputError(
            f"{name}: {int(missing.sum())} of {len(missing)} rows have no label, first row "
            f"{int(missing.nonzero()[0])}; leave such rows out, or name another split."
        )
    labels, kept, rows = choose_classes(labels, named_classes(names, data), data, name)
    files = _as_bytes(table, image, name)
    positions: list[int] = rows.tolist()
    may_read = _own_files(table, data)
    arrow = [Path(file["filename"]) for file in table.cache_files]
    return EncodedSplit(
        name=name,
        labels=labels,
        class_names=kept,
        # `datasets` makes new arrow files when the data set changes
        fingerprint=f"{files_fingerprint(arrow)} {image} {data.label}",
        read=lambda row: _content(files[positions[row]][image], may_read),
        locate=lambda row: f"{name}, row {positions[row]}",
    )


def _tables(data: Data) -> Tables:
    """The splits of the configuration; local ones are read when they are opened."""
    if ranks.rank() != 0:
        datasets.disable_progress_bars()
    source = Path(data.source).expanduser()
    if source.is_dir():
        return local_tables(source, data.config)
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # its retries would drown the one line of the error
    try:
        _check_card(data)
        tables = datasets.load_dataset(data.source, data.config, revision=data.revision)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if is_full(error):
            raise  # a full disk is not the data set's fault
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot open data.source={data.source}: {reason}; it is neither a folder here nor a "
            "data set that the Hub gives us. Without network, download it elsewhere (hf download "
            "REPO --repo-type dataset --local-dir FOLDER), copy the folder here and pass "
            "data.source=FOLDER."
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)
    return {split: partial(tables.__getitem__, split) for split in tables}


def _check_card(data: Data) -> None:
    """Refuse a repository whose card names files outside of it, such as files of this machine."""
    for name in ("README.md", datasets.config.REPOYAML_FILENAME):
        try:
            path = hf_hub_download(data.source, name, repo_type="dataset", revision=data.revision)
        except (OSError, ValueError, HfHubHTTPError):
            continue  # it has none, or `datasets` says why nothing can be had
        read_card(Path(path), Path(data.source) / name)


def _test_split(data: Data, tables: Tables) -> str:
    passed_over: list[str] = []
    for name in TEST_SPLITS:
        if name in tables:
            why = _unlabelled(data, tables[name](), name)
            if why is None:
                if passed_over:
                    note(f"{data.source}: {', '.join(passed_over)}; the test split is {name}.")
                return name
            passed_over.append(f"{name} {why}")
    raise InputError(
        f"{data.source} has none of the test splits {', '.join(TEST_SPLITS)} with labels, only "
        f"{', '.join(tables)}; name one with data.test=..."
        + (f" ({', '.join(passed_over)})" if passed_over else "")
    )


def _unlabelled(data: Data, table: Any, split: str) -> str | None:
    """Why a split is none to test on: competitions publish theirs without labels or with -1."""
    try:
        labels, _ = _labels(data, table, f"{data.source} {split}")
    except InputError as error:
        if data.label is not None and data.label not in table.column_names:
            return f"has no column {data.label}"
        if "no label column" in str(error):
            return "has no label column"
        raise
    return "has no labels" if bool((labels < 0).all()) else None


def _labels(data: Data, table: Any, name: str) -> tuple[Any, list[str]]:
    column = label_column(table.features, data.label, name)
    return class_labels(table.features[column], table.data.column(column).to_pylist(), name)


def _as_bytes(table: Any, image: str, name: str) -> Any:
    """The image column alone, as bytes and path."""
    try:
        return table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"{name}: cannot read the images of column {image!r}: {' '.join(str(error).split())}."
        ) from error


def _own_files(table: Any, data: Data) -> Callable[[Path], bool]:
    """Which files the rows of a table may name.

    Those of a Hub repository of image files, which `datasets` has downloaded; rows of any other
    table name files of their author's choice, and none of them is read.
    """
    if table.info.builder_name != "imagefolder" or Path(data.source).expanduser().is_dir():
        return lambda path: False
    homes = [constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE]
    roots = [Path(home).resolve() for home in homes]
    return lambda path: path.is_file() and any(path.resolve().is_relative_to(r) for r in roots)


def _content(entry: dict[str, Any] | None, may_read: Callable[[Path], bool]) -> bytes:
    """The bytes of an image; OSError where there are none."""
    if entry is None:
        raise OSError("the image is missing")
    if entry["bytes"] is not None:
        return bytes(entry["bytes"])
    if entry["path"] is None:
        raise OSError("the image is missing")
    if may_read(path := Path(entry["path"])):
        return path.read_bytes()
    raise OSError(
        f"the row holds no image but the name of a file ({entry['path'][:100]!r}), and files that "
        "rows name are not read; write the table with the images inside (push_to_hub, or "
        "save_to_disk of `datasets`)"
    )


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
