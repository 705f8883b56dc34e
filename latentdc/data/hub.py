"""Tables of images and labels: Hub data sets, and local folders in the Hub's layout."""

import errno
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging

from latentdc import ranks
from latentdc.config import nearest
from latentdc.data.card import require_own_files
from latentdc.data.classes import chosen_names, named_classes, relabel
from latentdc.data.columns import class_labels, image_column, label_column, with_images
from latentdc.data.encoded import TEST_SPLITS, EncodedSplit
from latentdc.data.files import note
from latentdc.data.tables import local_tables
from latentdc.errors import InputError
from latentdc.recipe import Data

Tables = Mapping[str, Callable[[], Any]]  # by split: opens its table


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
    names = named_classes(names, data)
    kept = chosen_names(names, data, name)
    labels = relabel(labels, names, kept)
    rows = (labels >= 0).nonzero().squeeze(1)
    files = _as_bytes(table, image, name)
    positions: list[int] = rows.tolist()
    may_read = _own_files(table, data)
    return EncodedSplit(
        name=name,
        labels=labels[rows],
        class_names=tuple(kept),
        fingerprint=f"{_fingerprint(table)} {image} {data.label}",
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
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
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
        require_own_files(Path(path), data.source)


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


def _fingerprint(table: Any) -> str:
    """Of the arrow files that `datasets` made; it makes new ones when the data set changes."""
    digest = hashlib.sha256()
    for file in table.cache_files:
        stat = Path(file["filename"]).stat()
        digest.update(f"{file['filename']} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


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
