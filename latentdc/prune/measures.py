"""What is measured of every image in one pass of a classifier, shared by the processes."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc import io, ranks
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import fetch, place, send
from latentdc.prune.rules.dynamics import change_of, margin_of
from latentdc.prune.score_table import PREDICTED
from latentdc.prune.scorers import Classifier
from latentdc.recipe.rules import RULES

BLOCK = 64  # batches between two gatherings; the same for any number of processes
_IN_MEMORY = 2**30  # bytes of a history; more goes into an unnamed file


@dataclass(frozen=True)
class RuleInputs:
    """What a rule may look at, on the device."""

    classifier: Classifier  # in eval mode
    images: Tensor  # (B, 3, H, W) floats in [-1, 1]
    labels: Tensor  # (B,)
    logits: Tensor  # (B, C) float32
    features: Tensor  # (B, D) float32 that the last layer sees; empty unless asked for
    rows: Tensor  # (B,) positions in the data set, on the CPU


def measure(
    classifier: Classifier,
    dataset: Dataset,
    values: Callable[[RuleInputs], Tensor],
    *,
    width: int,
    batch: int,
    accelerator: Accelerator,
    start: int = 0,
    embed: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """First row and (n, Q) float32 on the CPU of consecutive blocks, the same on every process.

    In eval mode and without gradients. Whole batches are dealt to the processes, so that every
    batch holds the same images, and gives the same numbers, for any number of them.

    `values` makes (B, Q) of a batch, whose features it sees with `embed`; `width` is Q, and `start`
    the row to begin with, a multiple of `batch`.
    """
    device = accelerator.device
    classifier.to(device).eval()
    images, labels = place(dataset.images, device), dataset.labels.to(device)
    batches = torch.arange(start, len(dataset)).split(batch)
    bar = ranks.progress(
        None,
        f"scoring {dataset.name}",
        total=len(batches),
        unit=" batches",
        leave=False,
        delay=2,  # small sets show no bar
    )
    with torch.no_grad(), bar:
        for first in range(0, len(batches), BLOCK):
            block = batches[first : first + BLOCK]
            begin, own = int(block[0][0]), {}
            for index in range(accelerator.process_index, len(block), accelerator.num_processes):
                rows = block[index]
                pixels = fetch(images, rows, device)
                with accelerator.autocast():
                    if embed:
                        logits, features = classifier.embed(pixels)
                    else:
                        logits, features = classifier(pixels), torch.empty(0)
                own_labels = labels[send(rows, device)]
                seen = RuleInputs(
                    classifier, pixels, own_labels, logits.float(), features.float(), rows
                )
                own[index] = values(seen).float()
            yield begin, _gathered(own, block, width, accelerator)
            bar.update(len(block))


def _gathered(
    own: dict[int, Tensor], block: tuple[Tensor, ...], width: int, accelerator: Accelerator
) -> Tensor:
    """(n, Q) of all processes; what others measured is zero here, so that sums are exact."""
    nothing = torch.zeros(len(block[0]), width, device=accelerator.device)
    parts = [own.get(index, nothing[: len(rows)]) for index, rows in enumerate(block)]
    summed: Tensor = accelerator.reduce(torch.cat(parts), "sum")
    return summed.cpu()


def scorer_accuracy(
    classifier: Classifier, dataset: Dataset, *, batch: int, accelerator: Accelerator
) -> float:
    """Share in [0, 1] of the samples whose largest logit is that of their label."""

    def right(seen: RuleInputs) -> Tensor:
        return (seen.logits.argmax(dim=1) == seen.labels).unsqueeze(1)

    blocks = measure(classifier, dataset, right, width=1, batch=batch, accelerator=accelerator)
    return sum(int(block.sum()) for _, block in blocks) / len(dataset)


def try_own_rules(
    names: Sequence[str], classes: int, width: int | None, device: torch.device
) -> None:
    """Random samples through rules of one's own, before a scorer is trained for them.

    What may be for want of real samples, such as of a class's tenth neighbour, is a note. Rules of
    contents are not tried: they are the first that is computed; nor are those of features, where
    their width is not known.

    Raises:
        InputError: one fails, or returns no finite score of each sample, or no rows of a choice.
    """
    for name in names:
        rule = RULES[name]
        if rule.stage == "contents" or (width is None and "features" in rule.inputs):
            continue
        batch = rule.stage == "predictions"
        source, count = torch.Generator().manual_seed(0), 64 if batch else max(1000, 4 * classes)
        seen: dict[str, Any] = {
            "logits": torch.randn(count, classes, generator=source),
            "features": torch.randn(count, width or 1, generator=source),
            "labels": torch.arange(count) % classes,
            "hardness": torch.rand(count, generator=source),
            "draws": torch.rand(count, generator=source),
        }
        if batch:
            rule({key: value.to(device) for key, value in seen.items()})
            continue
        try:
            rule(seen | {"seed": 0, "clusters": classes, "count": count // 4})
        except InputError as error:
            if not isinstance(error.__cause__, LookupError | RuntimeError | ValueError):
                raise
            ranks.say("note", f"on {count:,} random samples {error}")


class Measures:
    """The values behind the rules, those `asked` for and the free ones, batch by batch.

    Attributes:
        averaged: names of values that are averaged over epochs, or of which all are recorded.
        last: names of values of the last epoch alone.
        embed: whether the batches need features.
        history: predictions of one epoch ago, where a rule looks at their change.
    """

    def __init__(self, asked: Sequence[str], count: int, classes: int) -> None:
        changes = any("change" in RULES[name].inputs for name in asked)
        self.history = _History(count, classes) if changes else None
        wanted = {name: rule for name, rule in RULES.items() if rule.free or name in asked}
        wanted |= {name: RULES[name] for name in asked if name not in RULES}  # of one's own
        self.averaged = (
            *(name for name, rule in wanted.items() if rule.stage == "predictions"),
            "logit_margin",
            *(("change",) if changes else ()),
        )
        self.last = (*(n for n, rule in wanted.items() if rule.stage == "last"), PREDICTED)
        self.names = (*self.averaged, *self.last)  # of the columns of a call
        self.embed = any(
            "features" in rule.inputs
            for rule in wanted.values()
            if rule.stage in ("predictions", "last")
        )

    def __call__(self, batch: RuleInputs) -> Tensor:
        """(B, Q) float32."""
        return torch.stack([self._value(name, batch).float() for name in self.names], dim=1)

    def _value(self, name: str, batch: RuleInputs) -> Tensor:
        if name == PREDICTED:
            return batch.logits.argmax(dim=1)
        if name == "logit_margin":
            return margin_of(batch.logits, batch.labels)
        if name == "change" and self.history is not None:
            return self.history.change(batch)
        value: Tensor = RULES[name](vars(batch))
        return value


class _History:
    """(N, C) log-probabilities of one epoch ago in half precision.

    Each process knows those of the images that it measures.
    """

    def __init__(self, count: int, classes: int) -> None:
        shape = (count, classes)
        self._before: NDArray[np.float16]
        if 2 * count * classes <= _IN_MEMORY:
            self._before = np.zeros(shape, np.float16)
        else:
            file = tempfile.TemporaryFile()
            self._before = np.memmap(file, np.float16, "w+", shape=shape)
            io.reserve(file)

    def change(self, batch: RuleInputs) -> Tensor:
        """(B,) change since the last call with these images; of the first one it means nothing."""
        rows = batch.rows.numpy()
        after = batch.logits.log_softmax(dim=1)
        before = torch.from_numpy(self._before[rows].astype(np.float32)).to(after.device)
        self._before[rows] = after.cpu().numpy().clip(-60000, 0)
        return change_of(before, after)
