"""Where a scoring keeps what it has, so that a killed one goes on."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc.errors import InputError
from latentdc.io import fingerprint, load_tensors, reserve, save_tensors, write_text

_NAME = "scoring"  # in a run folder, while it lasts
_MARK = "fingerprint"


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
        self._home: Path | None = None
        self._made: list[Path] = []  # folders above it, the innermost first
        if folder is not None and accelerator.is_main_process:
            self._home = folder / _NAME
            self._made = [path for path in self._home.parents if not path.exists()]
            self._identity = fingerprint(facts, digits=64)
            mark = self._home / _MARK
            if not mark.is_file() or mark.read_bytes() != self._identity.encode():
                shutil.rmtree(self._home, ignore_errors=True)

    def place(self, name: str) -> Path | None:
        """Of a file; None where nothing is kept."""
        if self._home is None:
            return None
        mark = self._home / _MARK
        if not mark.is_file():  # without it, what was scored is discarded
            write_text(mark, self._identity)
        return self._home / name

    def save(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, whole or not at all."""
        path = self.place(f"{name}.safetensors")
        if path is not None:
            save_tensors(path, tensors)

    def load(self, name: str) -> dict[str, Tensor] | None:
        """What was last saved under a name.

        Raises:
            InputError: it is damaged.
        """
        path = self._home and self._home / f"{name}.safetensors"
        try:
            return None if path is None or not path.is_file() else load_tensors(path)
        except (OSError, ValueError) as error:
            raise self.damaged(path, str(error)) from error

    def array(self, name: str, shape: tuple[int, int], *, keep: bool) -> NDArray[np.float16]:
        """An array of zeros, in a file where there is a folder; with `keep`, the file's content.

        Raises:
            InputError: the file to keep is damaged.
            OSError: the disk has no room for a new one.
        """
        path = self.place(name)
        if path is None:
            return np.zeros(shape, np.float16)
        if keep:
            try:
                found = np.lib.format.open_memmap(path, mode="r+")
            except (OSError, ValueError, EOFError) as error:
                raise self.damaged(path, str(error)) from error
            if found.shape != shape or found.dtype != np.float16:
                raise self.damaged(path, f"{found.dtype} of shape {found.shape}")
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        made: NDArray[np.float16] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        with path.open("r+b") as file:
            reserve(file)
        return made

    def damaged(self, path: Path | None, why: str) -> InputError:
        """The error that says so."""
        return InputError(f"{path} is damaged ({why}); delete {self._home} to score anew.")

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
