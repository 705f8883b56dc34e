"""`Features`: embeddings of many images, read block by block from where they lie."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import MappedImages

FEATURES = "features.npy"  # beside the scores of a scoring whose scorer made them
BLOCK = 4096  # images
_CACHED = 256 * 2**20  # bytes of float32 below which the rows are read only once


class Features:
    """Rows (n,) of an (N, D) array, such as a memory-mapped one in half precision, as float32."""

    def __init__(self, array: NDArray[np.floating], rows: Tensor | None = None) -> None:
        self._array = array
        self._rows = torch.arange(len(array)) if rows is None else rows
        self._cache: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def width(self) -> int:
        """D, values of a row."""
        return int(self._array.shape[1])

    def select(self, positions: Tensor) -> "Features":
        """The features at `positions` (m,) among these."""
        return Features(self._array, self._rows[positions])

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """First position and (b, D) float32 of consecutive blocks."""
        if self._cache is None and 4 * len(self) * self._array.shape[1] <= _CACHED:
            self._cache = list(self._read())
        blocks = self._read() if self._cache is None else iter(self._cache)
        for index, block in enumerate(blocks):
            yield index * BLOCK, block

    def _read(self) -> Iterator[Tensor]:
        for rows in self._rows.split(BLOCK):
            yield torch.from_numpy(self._array[rows.numpy()].astype(np.float32))

    def row(self, position: int) -> Tensor:
        """(D,) one of them."""
        return torch.from_numpy(self._array[int(self._rows[position])].astype(np.float32))

    @property
    def tensor(self) -> Tensor:
        """(n, D) float32, all in memory."""
        return torch.cat([block for _, block in self.blocks()])

    def mean(self) -> Tensor:
        """(D,) float32, summed in float64."""
        total = torch.zeros(self._array.shape[1], dtype=torch.float64)
        for _, block in self.blocks():
            total += block.sum(dim=0, dtype=torch.float64)
        return (total / len(self)).float()

    def distances(self, point: Tensor) -> Tensor:
        """(n,) Euclidean distance to a (D,) point."""
        return torch.cat([(block - point).norm(dim=1) for _, block in self.blocks()])

    def times(self, vector: Tensor) -> Tensor:
        """(n,) product with a (D,) vector."""
        return torch.cat([block @ vector for _, block in self.blocks()])


def own_features(train: Dataset) -> Features | None:
    """The samples themselves, where they are feature vectors; None of images."""
    if train.kind == "images":
        return None
    vectors = train.images
    if isinstance(vectors, MappedImages):
        return Features(vectors.source.numpy(), vectors.rows)
    return Features(vectors.numpy())


def read_features(path: Path, count: int) -> Features:
    """Features of others, a row for each of `count` training images in data-set order.

    An .npy file is memory-mapped; one of safetensors has one tensor, or one named `features`.

    Raises:
        InputError: unreadable, not (N, D) floats, another number of rows, or not finite.
    """
    array = _open(path)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{path} holds {array.dtype} of shape {array.shape}; features are floats of shape "
            "(images, D)."
        )
    if len(array) != count:
        raise InputError(
            f"{path} has features of {len(array)} images and the data set has {count}; one row per "
            "training image is needed, in data-set order."
        )
    features = Features(array)
    if not all(bool(block.isfinite().all()) for _, block in features.blocks()):
        raise InputError(f"{path} holds features that are not finite; mend or remake it.")
    return features


def _open(path: Path) -> NDArray[np.floating]:
    try:
        if path.suffix == ".npy":
            # np.load would take an archive of arrays or a pickle of that name, too
            mapped: NDArray[np.floating] = np.lib.format.open_memmap(path, mode="r")
            return mapped
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"cannot read the features {path}: {error}") from error
    name = "features" if "features" in tensors else next(iter(tensors), "")
    if not name or (len(tensors) > 1 and name != "features"):
        raise InputError(
            f"{path} holds {', '.join(tensors) or 'nothing'} and no tensor 'features'."
        )
    array: NDArray[np.floating] = tensors[name].float().numpy()
    return array
