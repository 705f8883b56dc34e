"""What a scoring has recorded so far, in memory or in files from which a killed one goes on."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc import runtime
from latentdc.errors import InputError, RunError
from latentdc.io import fingerprint, load_tensors, reserve, save_tensors, write_text
from latentdc.prune.measures import Measures

_CHUNK = 2**18  # images looked at together when scores are made of records
_NAME = "scoring"  # in a run folder, while it lasts
_MARK = "fingerprint"


class Records:
    """Named (E, N) arrays, memory-mapped files where there is a folder.

    Losses take 4 bytes, because easy images differ below half precision; the others take 2.
    The last epoch alone is kept of what is not averaged.

    Args:
        folder: for the files; None keeps all in memory.
        measures: whose values are kept.
        epochs: E.
        count: N.
        keep: whether files of an earlier, killed scoring are continued.
    """

    def __init__(
        self, folder: Path | None, measures: Measures, *, epochs: int, count: int, keep: bool
    ) -> None:
        self.count, self._measures = count, measures
        self._arrays: dict[str, NDArray[np.floating]] = {}
        for name in measures.names:
            shape = (epochs if name in measures.averaged else 1, count)
            half = name in measures.averaged and name != "loss"
            self._arrays[name] = array_file(folder, name, shape, "<f2" if half else "<f4", keep)

    def put(self, epoch: int, start: int, values: Tensor) -> None:
        """Note (n, Q) values of consecutive images, in the order of `measures.names`."""
        for name, column in zip(self._measures.names, values.T.numpy(), strict=True):
            array = self._arrays[name]
            largest = np.finfo(array.dtype).max
            row = array[epoch if name in self._measures.averaged else 0]
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
            arrays = {name: self._arrays[name][:, some] for name in self._measures.averaged}
            yield some, {n: torch.from_numpy(a.astype(np.float32)) for n, a in arrays.items()}


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


class Workspace:
    """A folder that one scoring alone continues; the main process alone reads and writes it.

    Args:
        folder: of the run; None keeps nothing.
        facts: of the data, the scorer and whatever else decides the scores.
        accelerator: of this process.
    """

    def __init__(
        self, folder: Path | None, facts: Mapping[str, object], accelerator: Accelerator
    ) -> None:
        self._accelerator = accelerator
        self._home = None
        self._made: list[Path] = []  # folders above it, the innermost first
        if folder is not None and accelerator.is_main_process:
            self._home = folder / _NAME
            self._made = [path for path in self._home.parents if not path.exists()]
            self._identity = fingerprint(facts, digits=64)
            mark = self._home / _MARK
            if not mark.is_file() or mark.read_bytes() != self._identity.encode():
                shutil.rmtree(self._home, ignore_errors=True)

    def folder(self, run: str) -> Path | None:
        """Of one training; made when it is first asked for."""
        if self._home is None:
            return None
        (self._home / run).mkdir(parents=True, exist_ok=True)
        mark = self._home / _MARK
        if not mark.is_file():  # whole or not at all: without it, what was scored is discarded
            write_text(mark, self._identity)
        return self._home / run

    def load(self, run: str, *, beside: str | None = None) -> dict[str, Tensor] | None:
        """What was last saved of a run, on every process.

        Args:
            run: name of its folder.
            beside: a file without which what was saved is worth nothing.

        Raises:
            InputError: it is damaged.
        """
        state, home = None, self._home and self._home / run
        if home is not None and (beside is None or (home / beside).is_file()):
            path = home / "state.safetensors"
            try:
                state = load_tensors(path) if path.is_file() else None
            except (OSError, ValueError) as error:
                raise InputError(_damaged(path, str(error))) from error
        return cast(dict[str, Tensor] | None, runtime.broadcast(self._accelerator, state))

    def save(self, run: str, state: dict[str, Tensor]) -> None:
        """Replace what was saved of a run, whole or not at all."""
        folder = self.folder(run)
        if folder is not None:
            save_tensors(folder / "state.safetensors", state)

    def clear(self) -> None:
        """Delete it, when the scores are made."""
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def refused(self) -> None:
        """Delete it with the folders that it made: what is refused leaves no trace."""
        self.clear()
        with suppress(OSError):  # one holds more
            for folder in self._made:
                folder.rmdir()
