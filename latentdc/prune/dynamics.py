"""What a training, or a pass under given weights, says of every image, epoch by epoch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdc import runtime
from latentdc.errors import RunError
from latentdc.io import file_hash
from latentdc.prune.features import FEATURES
from latentdc.prune.measures import Batch, Measures, measure
from latentdc.prune.score_table import PREDICTED
from latentdc.prune.scorers import Classifier
from latentdc.prune.scoring import Scoring
from latentdc.recipe.rules import RULES

Columns = dict[str, Tensor]
GIVEN = "given"  # the one pass under given weights
_HALF = 65504.0  # the largest number of half precision
_CHUNK = 2**18  # images whose scores are made together of all epochs


class Dynamics:
    """What one training, or one pass under given weights, says of every image.

    Losses take 4 bytes, because easy images differ below half precision; other values that are
    averaged over epochs take 2. Of what is not averaged, the last epoch alone is kept.

    Args:
        scoring: images, device and folder.
        run: name of its folder.
        measures: what to measure.
        width: of features to keep from the last pass; 0 keeps none.

    Attributes:
        passes: (N,) values by name, of every recorded epoch; of the main process.
        features: (N, width) float16; likewise.
    """

    def __init__(self, scoring: Scoring, run: str, measures: Measures, width: int) -> None:
        self._scoring, self._run, self._measures, self._width = scoring, run, measures, width
        self._main, self._shape = scoring.accelerator.is_main_process, (len(scoring.train), width)
        self.passes: list[Mapping[str, Tensor]] = []
        self.features: NDArray[np.float16] | None = None

    def restore(self, first: int) -> dict[str, Tensor] | None:
        """The state of a killed training, whose epochs from `first` on are taken up; None without.

        Raises:
            InputError: a file is damaged.
        """
        workspace, run = self._scoring.workspace, self._run
        state = workspace.load(f"{run}/state")
        for epoch in range(first, 0 if state is None else int(state["done"]) + 1):
            found = workspace.load(f"{run}/epoch-{epoch}")
            assert found is not None, "a state is saved after its epochs"
            self.passes.append(found)
        return state

    def look(self, classifier: Classifier) -> None:
        """Let the measures note what a training that was begun said last."""
        for _ in self._blocks(classifier, features=False):
            pass

    def record(self, epoch: int, classifier: Classifier, *, last: bool) -> None:
        """Measure every image at the end of an epoch of a training."""
        if last:
            self._open_features(keep=False)
        values = torch.cat([block for _, block in self._blocks(classifier, features=last)])
        if self._main:
            found, name = self._pass(values, last=last), f"{self._run}/epoch-{epoch}"
            self._scoring.workspace.save(name, found)
            self.passes.append(self._scoring.workspace.load(name) or found)  # mapped from its file

    def record_once(self, classifier: Classifier) -> None:
        """Measure every image under given weights, from where a killed pass ended."""
        workspace, blocks = self._scoring.workspace, list[Tensor]()

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

        start = runtime.main_alone(self._scoring.accelerator, restore)
        if start < self._shape[0]:
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

        def values(batch: Batch) -> Tensor:
            measured = self._measures(batch)
            return torch.cat([measured, batch.features], dim=1) if width else measured

        for first, block in measure(
            classifier,
            self._scoring.train,
            values,
            width=own + width,
            batch=self._scoring.batch,
            accelerator=self._scoring.accelerator,
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
            name, workspace = f"{self._run}/{FEATURES}", self._scoring.workspace
            self.features = workspace.array(name, self._shape, keep=keep)

    def column(self, name: str) -> Tensor:
        """(N,) float32: the mean over epochs, or the last one's value."""
        found = [one[name].float() for one in self.passes if name in one]
        total = torch.zeros(self._shape[0])
        for values in found:
            total += values / len(found)
        return total

    def columns(self, asked: Sequence[str], settings: Mapping[str, object]) -> Columns:
        """Scores by the rules that look at this alone."""
        names = self._measures.names
        scores = {name: self.column(name) for name in names if name in RULES or name == PREDICTED}
        if self._run == GIVEN:
            return scores
        derived = [name for name, rule in RULES.items() if rule.stage == "records"]
        derived = [name for name in derived if RULES[name].free or name in asked]
        scores |= {name: torch.zeros(self._shape[0]) for name in derived}
        for start in range(0, self._shape[0], _CHUNK):
            some = slice(start, start + _CHUNK)
            values: dict[str, object] = {
                name: torch.stack([one[name][some] for one in self.passes]).float()
                for name in self._measures.averaged
            }
            for name in derived:
                scores[name][some] = RULES[name]({**values, **settings})
        return scores

    def keep_features(self) -> str | None:
        """Move those in a file to the run folder, and say the file's hash; they stay open there."""
        folder = self._scoring.folder
        if folder is None or not isinstance(self.features, np.memmap):
            return None
        Path(str(self.features.filename)).replace(folder / FEATURES)
        return file_hash(folder / FEATURES)
