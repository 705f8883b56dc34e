"""Hub data sets and local folders in the Hub's layout, read through `datasets`."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub.utils import logging as hub_logging

from latentdc.config import nearest
from latentdc.data.classes import chosen_names, relabel
from latentdc.data.columns import class_labels, image_column, label_column
from latentdc.data.encoded import TEST_SPLITS, EncodedSplit
from latentdc.errors import InputError
from latentdc.recipe import Data


def hub_split(data: Data, split: str | None) -> EncodedSplit:
    """The encoded images of one split; null looks for a test split that has labels.

    Raises:
        InputError: data set not found or no network; unknown configuration, split, column or class;
            a split without labels.
    """
    tables = _load(data)
    if split is None:
        split = _test_split(data, tables)
    if split not in tables:
        hint = nearest(split, tables)
        raise InputError(
            f"{data.source} has no split {split!r}{hint}; its splits: {', '.join(tables)}."
        )
    name = f"{data.source} {split}"
    table = tables[split]
    image = image_column(table.features, data.image, name)
    labels, names = _labels(data, table, name)
    if bool((labels < 0).any()):
        raise InputError(f"{name} has rows without a label; name another split.")
    kept = chosen_names(names, data, name)
    labels = relabel(labels, names, kept)
    rows = (labels >= 0).nonzero().squeeze(1)
    files = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    positions: list[int] = rows.tolist()
    return EncodedSplit(
        name=name,
        labels=labels[rows],
        class_names=tuple(kept),
        fingerprint=f"{_fingerprint(table)} {image} {data.label}",
        read=lambda row: _content(files[positions[row]][image]),
        locate=lambda row: f"{name}, row {positions[row]}",
    )


def _load(data: Data) -> Any:
    """All splits of the configuration, as tables mapped from `datasets`' own cache."""
    local = Path(data.source).expanduser().is_dir()
    path = str(Path(data.source).expanduser()) if local else data.source
    if int(os.environ.get("RANK", "0")) != 0:
        datasets.disable_progress_bars()
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # its retries would drown the one line of the error
    try:
        return datasets.load_dataset(path, data.config, revision=None if local else data.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk is not the data set's fault
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot open data.source={data.source}: {reason}{_advice(local)}"
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def _advice(local: bool) -> str:
    if local:
        return "; the folder should have the Hub's layout (parquet files, README.md)."
    return (
        "; it is neither a folder here nor a data set that the Hub gives us. Without network, "
        "download it elsewhere (hf download REPO --repo-type dataset --local-dir FOLDER), copy the "
        "folder here and pass data.source=FOLDER."
    )


def _test_split(data: Data, tables: Any) -> str:
    for name in TEST_SPLITS:
        if name in tables and not _unlabelled(data, tables[name], name):
            return name
    raise InputError(
        f"{data.source} has none of the test splits {', '.join(TEST_SPLITS)} with labels, only "
        f"{', '.join(tables)}; name one with data.test=..."
    )


def _unlabelled(data: Data, table: Any, split: str) -> bool:
    """Competition data sets publish their test split with -1 for every label."""
    labels, _ = _labels(data, table, f"{data.source} {split}")
    return bool((labels < 0).all())


def _labels(data: Data, table: Any, name: str) -> tuple[Any, list[str]]:
    column = label_column(table.features, data.label, name)
    return class_labels(table.features[column], table.data.column(column).to_pylist(), name)


def _fingerprint(table: Any) -> str:
    """Of the arrow files that `datasets` made; it makes new ones when the data set changes."""
    digest = hashlib.sha256()
    for file in table.cache_files:
        stat = Path(file["filename"]).stat()
        digest.update(f"{file['filename']} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _content(entry: dict[str, Any] | None) -> bytes:
    """A parquet file holds the bytes of an image or, rarely, the path of a file."""
    if entry is None:
        raise OSError("the image is missing")
    if entry["bytes"] is not None:
        return bytes(entry["bytes"])
    return Path(entry["path"]).read_bytes()
