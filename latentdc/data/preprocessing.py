"""From a recipe's data to what networks see of images."""

import os
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError

from latentdc.data.cache import cache_folder
from latentdc.data.dataset import Dataset
from latentdc.data.hashing import hash_samples
from latentdc.errors import InputError
from latentdc.images import Normalization, Preprocessing
from latentdc.recipe import Data
from latentdc.standardization import Plain, fit_standardization
from latentdc.whitening import EPS, Whitening, fit_whitening, read_whitening, to_bytes


def preprocessing(data: Data, train: Dataset) -> Preprocessing:
    """Normalisation, and with `data.zca` the whitening of the whole training split.

    The whitening is computed once and kept in the cache. Vectors are standardised.

    Raises:
        InputError: the cache cannot be written, or its file is damaged.
    """
    if not data.zca:
        return plain(data, train)
    normalization = Normalization(data.mean, data.std)
    name = hash_samples(train.hashes, train.labels, train.class_names)
    key = repr((name, normalization.facts(), EPS, train.resolution))
    path = cache_folder(data.cache) / f"zca-{sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if path.is_file():
        return _read(path)
    whitening = fit_whitening(train.images, normalization, name=name)
    _write(path, whitening)
    return whitening


def plain(data: Data, train: Dataset) -> Plain:
    """What scorers see: normalised images, never whitened; standardised vectors."""
    if train.kind == "images":
        return Normalization(data.mean, data.std)
    name = hash_samples(train.hashes, train.labels, train.class_names)
    return fit_standardization(train.images, name=name)


def _read(path: Path) -> Whitening:
    try:
        return read_whitening(path)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it.") from error


def _write(path: Path, whitening: Whitening) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(to_bytes(whitening))
    except (PermissionError, FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        message = f"cannot write to {path.parent}; pass another data.cache=FOLDER."
        raise InputError(message) from error
    os.replace(part, path)
