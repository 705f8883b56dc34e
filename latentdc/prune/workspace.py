"""`Workspace`: where a scoring keeps what it has, so that a killed one goes on."""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch import Tensor

from latentdc import launch
from latentdc.errors import InputError
from latentdc.io import load_tensors, save_tensors

_NAME = "scoring"  # in a run folder, while it lasts
_MARK = "fingerprint"


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_tensors(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({error}); delete {path.parent.parent} to score anew."
        ) from error


class Workspace:
    """A folder that one scoring alone continues; the main process alone reads and writes it.

    Args:
        folder: of the run; None keeps nothing.
        identity: of the data, the scorer and whatever else decides the scores.
        accelerator: of this process.
    """

    def __init__(self, folder: Path | None, identity: str, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._home = None
        self._made: list[Path] = []  # folders above it, the innermost first
        if folder is not None and accelerator.is_main_process:
            self._home = folder / _NAME
            self._made = [path for path in self._home.parents if not path.exists()]
            self._identity = hashlib.sha256(identity.encode()).hexdigest()
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
            part = self._home / f"{_MARK}.part"
            part.write_text(self._identity)
            os.replace(part, mark)
        return self._home / run

    def load(self, run: str, *, beside: str | None = None) -> dict[str, Tensor] | None:
        """What was last saved of a run, on every process.

        Args:
            run: name of its folder.
            beside: a file without which what was saved is worth nothing.
        """
        state, home = None, self._home and self._home / run
        if home is not None and (beside is None or (home / beside).is_file()):
            state = _read(home / "state.safetensors")
        return cast(dict[str, Tensor] | None, launch.agree(self._accelerator, state))

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
