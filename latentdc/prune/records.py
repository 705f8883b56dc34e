"""`Records`: what a training leaves behind of every image after every epoch."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdc.errors import RunError
from latentdc.io import reserve

_CHUNK = 2**18  # images looked at together when scores are made of records


class Records:
    """Named (E, N) arrays, memory-mapped files where there is a folder.

    Losses take 4 bytes, because easy images differ below half precision; the others take 2.
    The last epoch alone is kept of what is not averaged.

    Args:
        folder: for the files; None keeps all in memory.
        epochs: E.
        count: N.
        averaged: quantities of every epoch.
        last: quantities of the last one.
        keep: whether files of an earlier, killed scoring are continued.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        epochs: int,
        count: int,
        averaged: tuple[str, ...],
        last: tuple[str, ...],
        keep: bool = False,
    ) -> None:
        self.epochs, self.count = epochs, count
        self.averaged, self.last = averaged, last
        self._arrays: dict[str, NDArray[np.floating]] = {}
        for name in (*averaged, *last):
            shape = (epochs if name in averaged else 1, count)
            half = name in averaged and name != "loss"
            self._arrays[name] = array_file(folder, name, shape, "<f2" if half else "<f4", keep)

    def put(self, epoch: int, start: int, values: Tensor) -> None:
        """Note (n, Q) values of consecutive images, in the order `averaged`, then `last`."""
        for name, column in zip((*self.averaged, *self.last), values.T.numpy(), strict=True):
            array = self._arrays[name]
            largest = np.finfo(array.dtype).max
            row = array[epoch if name in self.averaged else 0]
            row[start : start + len(column)] = column.clip(-largest, largest)

    def flush(self) -> None:
        """Bring everything to the disk."""
        for array in self._arrays.values():
            if isinstance(array, np.memmap):
                array.flush()

    def column(self, name: str) -> Tensor:
        """(N,) float32: the mean over epochs, or the last one's value."""
        array = self._arrays[name]
        total = torch.zeros(self.count)
        for epoch in array:
            total += torch.from_numpy(epoch.astype(np.float32)) / len(array)
        return total

    def chunks(self) -> Iterator[tuple[slice, Mapping[str, Tensor]]]:
        """Some images at a time: their places, and (E, n) float32 of what is averaged."""
        for start in range(0, self.count, _CHUNK):
            some = slice(start, start + _CHUNK)
            yield (
                some,
                {
                    name: torch.from_numpy(self._arrays[name][:, some].astype(np.float32))
                    for name in self.averaged
                },
            )


def array_file(
    folder: Path | None, name: str, shape: tuple[int, int], dtype: str, keep: bool
) -> NDArray[np.floating]:
    """An array of zeros in a file, in memory without a folder; with `keep`, the file's content.

    Raises:
        RunError: there is no such file to keep, or it is damaged.
        OSError: the disk has no room for a new one.
    """
    if folder is None:
        return np.zeros(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npy"
    if keep:
        if not path.is_file():
            raise RunError(f"{path} is gone; delete {folder.parent} to score anew.")
        try:
            found = np.lib.format.open_memmap(path, mode="r+")
        except (ValueError, EOFError) as error:
            raise RunError(_damaged(path, str(error))) from error
        if (found.shape, found.dtype) != (shape, np.dtype(dtype)):
            raise RunError(_damaged(path, f"{found.dtype} of shape {found.shape}"))
        return found
    path.unlink(missing_ok=True)
    made: NDArray[np.floating] = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=shape
    )
    with path.open("r+b") as file:
        reserve(file)
    return made


def _damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}); delete {path.parent.parent} to score anew."
