"""CIFAR-10 and CIFAR-100 in the binary files of their authors.

https://www.cs.toronto.edu/~kriz/cifar.html: a row is one byte of label (CIFAR-100: two, coarse and
fine) and 3 x 32 x 32 levels, channel by channel. Rows stand in the order of torchvision's data
sets, which read the Python version, and have the content hashes of the same images in any other
copy.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from latentdc.data.decode import pointer, ppm
from latentdc.data.encoded import EncodedSplit
from latentdc.data.files import Split, fingerprint_and_change, require_plain_splits
from latentdc.errors import InputError
from latentdc.io import require_file
from latentdc.recipe import Data

_PIXELS = 3 * 32 * 32


class _Layout(NamedTuple):
    folder: str
    train: tuple[str, ...]
    test: str
    names: dict[str, str]  # by label column, in the order of the bytes: the file of its class names
    label: str  # column by default


_LAYOUTS = (
    _Layout(
        "cifar-10-batches-bin",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
        {"label": "batches.meta.txt"},
        "label",
    ),
    _Layout(
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        {"coarse_label": "coarse_label_names.txt", "fine_label": "fine_label_names.txt"},
        "fine_label",
    ),
)
_PICKLES = {
    "cifar-10-batches-py": ("data_batch_1", "cifar-10-binary.tar.gz"),
    "cifar-100-python": ("train", "cifar-100-binary.tar.gz"),
}


def cifar_split(data: Data, split: Split) -> EncodedSplit | None:
    """The images of one split; None where the source holds no such files.

    Raises:
        InputError: another split or column, missing or damaged files, both data sets or pickles.
    """
    if (home := _home(Path(data.source))) is None:
        return None
    folder, layout = home
    require_plain_splits(data, folder)
    column = data.label or layout.label
    if column not in layout.names or data.image is not None:
        raise InputError(
            f"{folder} has the label columns {', '.join(layout.names)} and one image a row, got "
            f"data.label={data.label} and data.image={data.image}; leave them out."
        )
    names = _names(folder / layout.names[column])
    files = layout.train if split == "train" else (layout.test,)
    rows = [_rows(folder / name, len(layout.names)) for name in files]
    table = rows[0] if len(rows) == 1 else np.concatenate(rows)
    labels = torch.from_numpy(table[:, list(layout.names).index(column)].astype(np.int64))
    if int(labels.max()) >= len(names):
        beyond = int((labels >= len(names)).sum())
        raise InputError(
            f"{folder} {split}: {beyond} of {len(labels)} rows have labels beyond its {len(names)} "
            f"class names (up to {int(labels.max())}); a file is damaged, unpack it again."
        )
    pixels = table[:, len(layout.names) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    name = f"{data.source} {split}"
    known, changed = fingerprint_and_change([folder / file for file in files])
    return EncodedSplit(
        name=name,
        labels=labels,
        class_names=tuple(names),
        fingerprint=f"{column} {known}",
        changed=changed,
        read=lambda row: ppm(pixels[row]),
        locate=lambda row: f"{name}, row {row}",
    ).choose_classes(data)


def _home(source: Path) -> tuple[Path, _Layout] | None:
    """Where a folder, or one directly in it, holds the binary files; None without.

    Raises:
        InputError: it holds the Python version, whose files are pickles, or both data sets.
    """
    found = [
        (folder, layout)
        for layout in _LAYOUTS
        for folder in (source, source / layout.folder)
        if any((folder / name).is_file() for name in (*layout.train, layout.test))
    ]
    if len(found) > 1:
        names = " and ".join(layout.folder for _, layout in found)
        raise InputError(f"{source} holds {names}; make one of them data.source.")
    if found:
        return found[0]
    for name, (file, archive) in _PICKLES.items():
        for folder in (source, source / name):
            if (folder / file).is_file() and (folder / name).exists() | (
                any((folder / meta).is_file() for meta in ("batches.meta", "meta"))
            ):
                raise InputError(
                    f"{folder} holds Python pickles, which can run any program and are not opened; "
                    f"take {archive} of https://www.cs.toronto.edu/~kriz/cifar.html, unpack it and "
                    "make its folder data.source."
                )
    return None


def _names(path: Path) -> list[str]:
    try:
        require_file(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the class names {path}: {error}; unpack the archive again."
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if len(set(names)) < len(names):
        raise InputError(f"{path} names a class twice; unpack the archive again.")
    return names


def _rows(path: Path, labels: int) -> np.ndarray:
    """(N, labels + pixels) bytes of a file."""
    try:
        require_file(path)
        with path.open("rb") as file:
            why = pointer(file.read(64))
        size = path.stat().st_size
        if why is None and (size == 0 or size % (labels + _PIXELS)):
            why = (
                f"it has {size} bytes, no multiple of {labels + _PIXELS}; unpack the archive again"
            )
        content = np.empty(0) if why else np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        why = f"{error.strerror or error}; unpack the archive again"
    if why:
        raise InputError(f"cannot read {path}: {why}.")
    rows: np.ndarray = content.reshape(-1, labels + _PIXELS)
    return rows
