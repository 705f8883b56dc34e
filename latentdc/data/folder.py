"""Image folders: `<source>/<split>/<class>/*.jpg`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from latentdc.data.classes import chosen_names
from latentdc.data.encoded import TEST_SPLITS, EncodedSplit
from latentdc.errors import InputError
from latentdc.recipe import Data


def is_class_tree(source: Path, split: str) -> bool:
    """Whether the split is a folder that holds one folder per class."""
    return (source / split).is_dir() and any(path.is_dir() for path in (source / split).iterdir())


def folder_split(data: Data, split: str | None) -> EncodedSplit:
    """The image files of one split; null looks for a test split.

    Raises:
        InputError: no such split, unknown or single class, or a class without images.
    """
    source = Path(data.source).expanduser()
    root = source / (split or _test_split(source))
    name = f"{data.source} {root.name}"
    if not is_class_tree(source, root.name):
        raise InputError(f"{name}: no folder {root}/<class>/; {source} holds {_folders(source)}.")
    kept = chosen_names(_folders(root), data, name)
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(kept):
        found = _images(root / class_name)
        paths += found
        labels += [label] * len(found)
    return EncodedSplit(
        name=name,
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=tuple(kept),
        fingerprint=_fingerprint(root, paths),
        read=lambda row: paths[row].read_bytes(),
        locate=lambda row: str(paths[row]),
    )


def _test_split(source: Path) -> str:
    for name in TEST_SPLITS:
        if (source / name).is_dir():
            return name
    raise InputError(
        f"{source} has none of the test splits {', '.join(TEST_SPLITS)}, only {_folders(source)}; "
        "name one with data.test=..."
    )


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


def _images(folder: Path) -> list[Path]:
    """Files with the suffix of an image format, at any depth, in a fixed order."""
    suffixes = Image.registered_extensions()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def _fingerprint(root: Path, paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(str(root.resolve()).encode())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
