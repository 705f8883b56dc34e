"""Data sets of feature vectors: files of floats and labels, such as features of video frames.

A folder holds for each split `<split>.safetensors` with the tensors `features` (N, D) and `labels`
(N,), or `<split>.npy` and `<split>_labels.npy`; a single .safetensors file holds the tensors
`<split>.features` and `<split>.labels`. `classes.txt` beside them names the classes, one in a line.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdc.arguments import one_form
from latentdc.data.classes import choose_classes, require_members
from latentdc.data.dataset import Dataset
from latentdc.data.decode import hash_array
from latentdc.data.files import Split
from latentdc.errors import InputError
from latentdc.images import MEMORY_LIMIT, Images, MappedImages
from latentdc.ranks import note
from latentdc.recipe import Data
from latentdc.recipe.data import TEST_SPLITS

_NAMES = "classes.txt"
_FLOATS = (torch.float16, torch.float32)
_BLOCK = 4096  # vectors read at a time


class StoredVectors(NamedTuple):
    """What the files of a split hold; vectors are mapped, and read when they are indexed."""

    vectors: Tensor
    labels: Tensor
    name: str


class KeptVectors(NamedTuple):
    """Which vectors of a split a recipe keeps, before any is read."""

    labels: Tensor  # (M,) int64 indices into `class_names`
    class_names: tuple[str, ...]  # in label order
    rows: Tensor  # (M,) ascending
    stored: StoredVectors  # of the whole split


def open_vectors(data: Data, split: Split) -> Dataset:
    """One split; its vectors in memory, or memory-mapped where they are large.

    Raises:
        InputError: missing or unreadable files; vectors that are no finite float16 or float32
            numbers, of unequal count with their labels, or of another width than the training
            split's; labels without a class, classes without a vector.
    """
    labels, names, rows, found = kept_vectors(data, split)
    some = None if len(rows) == len(found.labels) else rows
    large = found.vectors.nbytes > MEMORY_LIMIT
    vectors: Images = MappedImages(found.vectors, some) if large else found.vectors[rows]
    require_members(labels, names, found.name)
    return Dataset(
        images=vectors,
        labels=labels,
        class_names=names,
        hashes=_hashes(vectors, found.name),
        name=found.name,
    )


def kept_vectors(data: Data, split: Split) -> KeptVectors:
    """The vectors of one split that are of the classes that `data` keeps; raises as to open it."""
    train = stored_split(data, "train")
    found = train if split == "train" else stored_split(data, "test")
    if found.vectors.shape[1] != train.vectors.shape[1]:
        raise InputError(
            f"{found.name} has vectors of {found.vectors.shape[1]} values and {train.name} of "
            f"{train.vectors.shape[1]}; extract both by the same network."
        )
    names = _class_names(data, train)
    if int(found.labels.max()) >= len(names):
        raise InputError(
            f"{found.name} has labels up to {int(found.labels.max())}, and there are {len(names)} "
            f"classes (of {_NAMES}, or of the training labels); "
            f"{int((found.labels >= len(names)).sum())} of {len(found.labels)} rows lie beyond."
        )
    return KeptVectors(*choose_classes(found.labels, names, data, data.source), found)


def stored_split(data: Data, split: Split) -> StoredVectors:
    """The files of one split, checked as far as nothing has to be read."""
    source = Path(data.source)
    if not os.path.exists(source):
        raise InputError(
            f"no folder or file {data.source}; with data.kind=vectors data.source is a folder of "
            ".safetensors or .npy files, or one .safetensors file."
        )
    train = split == "train"
    wanted = [data.train] if train else [data.test] if data.test else list(TEST_SPLITS)
    unlabelled = []
    for name in wanted:
        try:
            pair = _read(source, name)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            told = str(error).strip().rstrip(".")
            raise InputError(f"cannot read the vectors {name} of {source}: {told}.") from error
        if pair is None:
            continue
        if len(wanted) > 1 and _has_no_labels(pair[1]):
            unlabelled.append(name)
            continue
        if unlabelled:
            note(f"{source}: {', '.join(unlabelled)} has no labels; the test split is {name}.")
        return _checked(StoredVectors(*pair, f"{source.name} {name}"))
    if unlabelled:
        raise InputError(
            f"{source}: all labels of {', '.join(unlabelled)} are below 0, which means none; name "
            "a labelled split with data.test=..."
        )
    holds = ", ".join(sorted(p.name for p in source.glob("*"))[:10]) or "no such tensors"
    raise InputError(
        f"{source} has no split {' or '.join(wanted)}: there is neither {wanted[0]}.safetensors "
        f"(tensors features and labels) nor {wanted[0]}.npy with {wanted[0]}_labels.npy; it holds "
        f"{holds}."
        + (" A share of the training vectors can be tested on: data.test_share=0.2." * (not train))
    )


def _class_names(data: Data, train: StoredVectors) -> list[str]:
    """The lines of `classes.txt`, or the numbers of the training labels."""
    source = Path(data.source)
    path = (source if source.is_dir() else source.parent) / _NAMES
    if not path.is_file():
        if int(train.labels.max()) >= len(train.labels):
            raise InputError(
                f"{train.name} has labels up to {int(train.labels.max())} and "
                f"{len(train.labels)} vectors, so that some classes have none; labels count from 0."
            )
        return [str(label) for label in range(int(train.labels.max()) + 1)]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}.") from error
    names = [one_form(line.strip()) for line in lines if line.strip()]
    if len(set(names)) < len(names):
        raise InputError(f"{path} names a class twice; every line is another class.")
    return names


def _read(source: Path, split: str) -> tuple[Tensor, Tensor] | None:
    """Vectors and labels as they lie there; None where the split does not exist."""
    if source.is_file():
        return _tensors(source, f"{split}.")
    if (path := source / f"{split}.safetensors").is_file():
        return _tensors(path, "")
    if (path := source / f"{split}.npy").is_file():
        # Copy-on-write: the file stays as it is, and torch wants memory that it might write to.
        if not (source / f"{split}_labels.npy").is_file():
            raise ValueError(f"there is no file {split}_labels.npy beside {split}.npy")
        # np.load would take an archive of arrays or a pickle of that name, too.
        vectors = np.lib.format.open_memmap(path, mode="c")
        labels = np.lib.format.open_memmap(source / f"{split}_labels.npy", mode="r")
        if not np.issubdtype(labels.dtype, np.integer):
            kind = f"labels are whole numbers, got {labels.dtype}"
            raise ValueError(f"{kind}; number the classes from 0 and save with .astype('int64')")
        if vectors.dtype not in (np.float16, np.float32, np.float64):
            form = "float16 or float32 in the machine's byte order"
            kind = f"vectors are {form}, got {vectors.dtype.str}"
            raise ValueError(f"{kind}; save them with .astype('float32')")
        return torch.from_numpy(vectors), torch.from_numpy(labels.astype(np.int64))
    return None


def _tensors(path: Path, prefix: str) -> tuple[Tensor, Tensor] | None:
    with safe_open(path, "pt") as file:  # maps the file
        names = set(file.keys())
        if prefix and f"{prefix}features" not in names:
            return None
        return file.get_tensor(f"{prefix}features"), file.get_tensor(f"{prefix}labels")


def _checked(found: StoredVectors) -> StoredVectors:
    vectors, labels, name = found
    if vectors.ndim != 2 or vectors.dtype not in _FLOATS:
        raise InputError(
            f"{name} holds {str(vectors.dtype).removeprefix('torch.')} of shape "
            f"{tuple(vectors.shape)}; vectors are float16 or float32 of shape (samples, values): "
            "save them with .astype('float32')."
        )
    if not _is_integer(labels) or labels.shape != (len(vectors),) or not len(labels):
        raise InputError(
            f"{name} has {len(vectors)} vectors and labels of shape {tuple(labels.shape)} and type "
            f"{str(labels.dtype).removeprefix('torch.')}; every vector has one whole number."
        )
    labels = labels.long()
    if int(labels.min()) < 0:
        raise InputError(
            f"{name} has the label {int(labels.min())}; labels count from 0, and "
            f"{int((labels < 0).sum())} of {len(labels)} lie below: leave such vectors out."
        )
    return StoredVectors(vectors, labels, name)


def _is_integer(labels: Tensor) -> bool:
    return not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)


def _has_no_labels(labels: Tensor) -> bool:
    return _is_integer(labels) and len(labels) > 0 and bool((labels.long() < 0).all())


def _hashes(vectors: Images, name: str) -> Tensor:
    """(N,) content hash of each vector, as float32; all must be finite."""
    hashes: list[int] = []
    for first in range(0, len(vectors), _BLOCK):
        block = vectors[first : first + _BLOCK].float()
        broken = (~block.isfinite()).any(dim=1).nonzero().flatten()
        if len(broken):
            raise InputError(
                f"{name} has values that are not finite (NaN or infinity), first in row "
                f"{first + int(broken[0])}; mend or leave out such vectors."
            )
        hashes += map(hash_array, block.numpy())
    return torch.tensor(hashes)


def vector_width(data: Data) -> int:
    """D of the training vectors, which are not read."""
    return stored_split(data, "train").vectors.shape[1]
