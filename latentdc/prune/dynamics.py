"""What a training, or a pass under given weights, says of every image, and where that is kept.

A scoring that was killed goes on from its folder.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc import io, runtime
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, RunError
from latentdc.prune.features import FEATURES
from latentdc.prune.measures import Measures, RuleInputs, measure
from latentdc.prune.score_table import PREDICTED
from latentdc.prune.scorers import Classifier
from latentdc.recipe.rules import RULES

Columns = dict[str, Tensor]
GIVEN = "given"  # the one pass under given weights
_HALF = 65504.0  # the largest number of half precision
_NAME = "scoring"  # in a run folder, while it lasts
_MARK = "fingerprint"
_CHUNK = 2**18  # images whose scores are made together of all epochs


class Workspace:
    """A folder that one scoring alone continues; the main process alone reads and writes it.

    It lies in the `folder` of a run, without which nothing is kept; facts are all that decides the
    scores.
    """

    def __init__(
        self, folder: Path | None, facts: Mapping[str, object], accelerator: Accelerator
    ) -> None:
        self._home: Path | None = None
        self._made: list[Path] = []  # folders above it, the innermost first
        if folder is not None and accelerator.is_main_process:
            self._home = folder / _NAME
            self._made = [path for path in self._home.parents if not path.exists()]
            self._identity = io.fingerprint(facts, digits=64)
            mark = self._home / _MARK
            if not mark.is_file() or mark.read_bytes() != self._identity.encode():
                shutil.rmtree(self._home, ignore_errors=True)

    def path(self, name: str) -> Path | None:
        """Path of a file; None where nothing is kept."""
        if self._home is None:
            return None
        mark = self._home / _MARK
        if not mark.is_file():  # without it, what was scored is discarded
            io.write_text(mark, self._identity)
        return self._home / name

    def save(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, whole or not at all."""
        path = self.path(f"{name}.safetensors")
        if path is not None:
            io.save_tensors(path, tensors)

    def load(self, name: str) -> dict[str, Tensor] | None:
        """What was last saved under a name."""
        path = self._home and self._home / f"{name}.safetensors"
        try:
            return None if path is None or not path.is_file() else io.load_tensors(path)
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
            io.reserve(file)
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


class Dynamics:
    """What one training, or one pass under given weights, says of every image.

    Losses take 4 bytes, because easy images differ below half precision; other values that are
    averaged over epochs take 2. Of what is not averaged, the last epoch alone is kept. `run` names
    its folder, and `width` is that of the features to keep from the last pass, 0 for none.

    Attributes:
        passes: (N,) values by name, of every recorded epoch; of the main process.
        features: (N, width) float16; likewise.
    """

    def __init__(
        self,
        run: str,
        workspace: Workspace,
        train: Dataset,
        asked: Sequence[str],
        *,
        batch: int,
        accelerator: Accelerator,
        width: int,
    ) -> None:
        self._run, self._workspace, self._train, self._batch = run, workspace, train, batch
        self._accelerator, self._main = accelerator, accelerator.is_main_process
        self._measures = Measures(asked, len(train), train.num_classes)
        self._asked, self._width = asked, width
        self.passes: list[Mapping[str, Tensor]] = []
        self.features: NDArray[np.float16] | None = None

    def restore(self, first: int) -> dict[str, Tensor] | None:
        """The state of a killed training, whose epochs from `first` on are taken up; None without.

        Raises:
            InputError: a file is damaged or gone.
        """
        workspace, run = self._workspace, self._run
        state = workspace.load(f"{run}/state")
        for epoch in range(first, 0 if state is None else int(state["done"]) + 1):
            found, name = workspace.load(f"{run}/epoch-{epoch}"), f"{run}/epoch-{epoch}.safetensors"
            if found is None:
                raise workspace.damaged(workspace.path(name), "it is gone")
            self.passes.append(found)
        return state

    def note(self, classifier: Classifier) -> None:
        """Note what a training that was begun said last, where a rule looks at changes."""
        for _ in self._blocks(classifier, features=False) if self._measures.history else ():
            pass

    def record(self, epoch: int, classifier: Classifier, *, last: bool) -> None:
        """Measure every image at the end of an epoch of a training."""
        if last:
            self._open_features(keep=False)
        values = torch.cat([block for _, block in self._blocks(classifier, features=last)])
        if self._main:
            found, name = self._pass(values, last=last), f"{self._run}/epoch-{epoch}"
            self._workspace.save(name, found)
            self.passes.append(self._workspace.load(name) or found)  # mapped from its file

    def record_once(self, classifier: Classifier) -> None:
        """Measure every image under given weights, from where a killed pass ended."""
        workspace, blocks = self._workspace, list[Tensor]()

        def restore() -> int:
            features, rows = workspace.path(f"{self._run}/{FEATURES}"), 0
            gone = self._width and features is not None and not features.is_file()  # moved already
            found = None if gone else workspace.load(f"{self._run}/rows-0")
            self._open_features(keep=found is not None)
            while found is not None:
                blocks.append(found["values"])
                rows += len(found["values"])
                found = workspace.load(f"{self._run}/rows-{rows}")
            return rows

        start = runtime.main_alone(self._accelerator, restore)
        if start < len(self._train):
            for first, block in self._blocks(classifier, features=True, start=start):
                blocks.append(block)
                if isinstance(self.features, np.memmap):
                    self.features.flush()  # on the disk before the block that says so
                workspace.save(f"{self._run}/rows-{first}", {"values": block})
        if self._main:
            self.passes = [self._pass(torch.cat(blocks), last=True)]

    def _blocks(
        self, classifier: Classifier, *, features: bool, start: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """First row and (n, Q) values of consecutive blocks; features are noted in passing.

        Raises:
            RunError: values that are not finite.
        """
        width, own = self._width if features else 0, len(self._measures.names)

        def values(batch: RuleInputs) -> Tensor:
            measured = self._measures(batch)
            return torch.cat([measured, batch.features], dim=1) if width else measured

        for first, block in measure(
            classifier,
            self._train,
            values,
            width=own + width,
            batch=self._batch,
            accelerator=self._accelerator,
            start=start,
            embed=self._measures.embed or width > 0,
        ):
            if not bool(block.isfinite().all()):
                raise RunError(
                    "the scorer gives losses that are not finite; lower prune.scorer.lr, or take "
                    "other weights."
                )
            if self.features is not None and width:
                rows = slice(first, first + len(block))
                self.features[rows] = block[:, own:].numpy().clip(-_HALF, _HALF)
            yield first, block[:, :own].contiguous()

    def _pass(self, values: Tensor, *, last: bool) -> dict[str, Tensor]:
        """(N, Q) values by name, as they are kept."""
        found = dict(zip(self._measures.names, values.T, strict=True))
        for name in self._measures.averaged:
            if name != "loss":
                found[name] = found[name].clamp(-_HALF, _HALF).half()
        names = self._measures.names if last else self._measures.averaged
        return {name: found[name].contiguous() for name in names}

    def _open_features(self, *, keep: bool) -> None:
        if self._main and self._width:
            name, shape = f"{self._run}/{FEATURES}", (len(self._train), self._width)
            self.features = self._workspace.array(name, shape, keep=keep)

    def column(self, name: str) -> Tensor:
        """(N,) float32: the mean over epochs, or the last one's value."""
        found = [one[name].float() for one in self.passes if name in one]
        total = torch.zeros(len(self._train))
        for values in found:
            total += values / len(found)
        return total

    def columns(self, settings: Mapping[str, object]) -> Columns:
        """Scores by the rules that look at this alone."""
        names = self._measures.names
        known = {*RULES, *self._asked, PREDICTED}
        scores = {name: self.column(name) for name in names if name in known}
        if self._run == GIVEN:
            return scores
        derived = [name for name, rule in RULES.items() if rule.stage == "records"]
        derived = [name for name in derived if RULES[name].free or name in self._asked]
        scores |= {name: torch.zeros(len(self._train)) for name in derived}
        for start in range(0, len(self._train), _CHUNK):
            some = slice(start, start + _CHUNK)
            values: dict[str, object] = {
                name: torch.stack([one[name][some] for one in self.passes]).float()
                for name in self._measures.averaged
            }
            for name in derived:
                scores[name][some] = RULES[name]({**values, **settings})
        return scores

    def keep_features(self, folder: Path | None) -> str | None:
        """Move those in a file to the run folder, and say the file's hash; they stay open there."""
        if folder is None or not isinstance(self.features, np.memmap):
            return None
        Path(str(self.features.filename)).replace(folder / FEATURES)
        return io.file_hash(folder / FEATURES)
