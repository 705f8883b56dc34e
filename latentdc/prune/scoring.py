"""What a scoring is made of, and where it keeps what it has, so that a killed one goes on."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.data.open import plain_preprocessing
from latentdc.errors import InputError
from latentdc.images import Normalization, Plain, forward_batch
from latentdc.io import (
    as_read_back,
    file_hash,
    fingerprint,
    load_tensors,
    reserve,
    save_tensors,
    write_text,
)
from latentdc.recipe import Data, Prune, RuleSettings, Scorer
from latentdc.recipe.rules import RULES

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

    def path(self, name: str) -> Path | None:
        """Of a file; None where nothing is kept."""
        if self._home is None:
            return None
        mark = self._home / _MARK
        if not mark.is_file():  # without it, what was scored is discarded
            write_text(mark, self._identity)
        return self._home / name

    def save(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, whole or not at all."""
        path = self.path(f"{name}.safetensors")
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
        path = self.path(name)
        if path is None:
            return np.zeros(shape, np.float16)
        array: NDArray[np.float16]
        if keep:
            try:
                array = np.lib.format.open_memmap(path, mode="r+")
            except (OSError, ValueError, EOFError) as error:
                raise self.damaged(path, str(error)) from error
            return array
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        with path.open("r+b") as file:
            reserve(file)
        return array

    def damaged(self, path: Path | None, why: str) -> InputError:
        """The error that says so."""
        return InputError(f"{path} is damaged ({why}); delete {self._home} to score anew.")

    def clear(self) -> None:
        """Delete it, when the scores are made."""
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def discard(self) -> None:
        """Delete it with the folders that it made: what is refused leaves no trace."""
        self.clear()
        with suppress(OSError):  # one holds more
            for folder in self._made:
                folder.rmdir()


@dataclass(frozen=True)
class Scoring:
    """All that decides the scores of a data set, and where they are made.

    Attributes:
        train: images to score.
        test: shows whether a scorer is any good; chooses nothing.
        prune: rules, scorer and window.
        given_normalization: of the images, unless the scorer has its own; None takes the default.
        seed: of the first training; the others' follow from it.
        folder: where a killed scoring is continued, and features are kept; None keeps nothing.
        accelerator: device, precision and processes.
    """

    train: Dataset
    test: Dataset
    prune: Prune
    given_normalization: Plain | None
    seed: int
    folder: Path | None
    accelerator: Accelerator

    @property
    def scorer(self) -> Scorer:
        """Network, weights and training."""
        return self.prune.scorer

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The rules asked for and those that they rank by, in the order of the list of rules."""
        named = {self.prune.score, *self.prune.columns}
        wanted = {*named, *(base_of(name, self.prune.rules) for name in named)}
        return tuple(name for name in RULES if name in wanted)

    @property
    def window(self) -> tuple[int, int]:
        """First and last epoch of a training to look at, counted from 1."""
        return self.prune.window or (1, self.scorer.epochs)

    @cached_property
    def batch(self) -> int:
        """Images in one forward pass."""
        return forward_batch(self.train.images, self.scorer.batch, self.accelerator.device)

    @cached_property
    def normalization(self) -> Plain:
        """Of the images."""
        return self.given_normalization or plain_preprocessing(Data(), self.train)

    @property
    def input_normalization(self) -> Plain:
        """What the scorer expects of images."""
        own, scorer = self.normalization, self.scorer
        if not isinstance(own, Normalization):
            return own
        return Normalization(scorer.mean or own.mean, scorer.std or own.std)

    @cached_property
    def workspace(self) -> Workspace:
        """For what has been done."""
        return Workspace(self.folder, self.facts, self.accelerator)

    @cached_property
    def facts(self) -> dict[str, object]:
        """What tells these scores from others, in JSON's types and without paths."""
        train, weights, features = self.train, self.scorer.weights, self.prune.features
        images = [train.hashes, train.labels, train.class_names]  # in order, as records are by row
        if weights is not None and Path(weights).is_file():
            weights = _identity(Path(weights))
        facts = {
            "columns": self.columns,
            "scorer": asdict(self.scorer) | {"weights": weights},
            "window": self.window,
            "settings": asdict(self.prune.rules),
            "normalization": self.normalization.facts(),
            "seed": self.seed,
            "precision": self.accelerator.mixed_precision,
            "features": None if features is None else _identity(Path(features)),
            "resolution": train.resolution,
            "images": fingerprint(images),
        }
        return dict(as_read_back(facts))


def base_of(name: str, settings: RuleSettings) -> str | None:
    """The rule by whose column a choice ranks; None of rules that rank by none."""
    base = RULES[name].base
    return settings.base if base == "*" else base


def _identity(path: Path) -> str:
    """Name and content of a file, wherever it lies."""
    return f"{path.name} {file_hash(path)[:16]}"
