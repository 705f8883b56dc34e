"""The steps of one training: which images each one shows, what they weigh, and how far it is."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdc.batches import epoch_batches, split
from latentdc.device import send
from latentdc.evaluate.lesson import Lesson
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.infobatch import InfoBatch
from latentdc.objectives.augment import Draw


@dataclass(frozen=True)
class Step:
    """One update of a student.

    Attributes:
        number: of the last step of the budget that it stands for. These are consecutive, unless
            InfoBatch shortens epochs: their fewer steps are spread over as much of the schedule.
        rows: (B,) images, on the CPU.
        draw: their DSA augmentation.
        weights: (B,) of their losses; None where all weigh the same.
    """

    number: int
    rows: Tensor
    draw: Draw | None
    weights: Tensor | None = None


class Pace:
    """The steps of one training.

    Args:
        count: images.
        protocol: with its budget in steps, those of full epochs.
        seed: of the training.
        join: as of `epoch_batches`; an epoch then has a step less, spread over as much of the
            schedule.
    """

    def __init__(
        self, count: int, protocol: EvalProtocol, seed: int, *, join: bool = False
    ) -> None:
        self._join = join
        assert protocol.steps is not None, "resolve() turns epochs into steps"
        self._count, self._protocol, self._seed = count, protocol, seed
        self._budget, self._per_epoch = protocol.steps, math.ceil(count / protocol.batch)
        self._epochs = math.ceil(self._budget / self._per_epoch)
        self._sampler = (
            None
            if protocol.infobatch is None
            else InfoBatch(count, self._epochs, rho=protocol.infobatch, seed=seed)
        )

    def steps(self, lesson: Lesson) -> Iterator[Step]:
        """All of them, drawn by (seed, epoch); the lesson turns to each epoch's views."""
        protocol, seed = self._protocol, self._seed
        for epoch in range(self._epochs):
            lesson.start(epoch)
            seen, weights = torch.arange(self._count), None
            if self._sampler is not None:
                seen, weights = self._sampler.epoch(epoch)
            batches = epoch_batches(
                len(seen), protocol.batch, protocol.augment, seed, "epoch", epoch, join=self._join
            )
            steps = len(split(seen, protocol.batch, join=self._join))
            for index, (places, draw) in enumerate(batches, start=1):
                number = epoch * self._per_epoch + math.ceil(index * self._per_epoch / steps) - 1
                if number >= self._budget:
                    break
                yield Step(number, seen[places], draw, None if weights is None else weights[places])

    def loss(self, step: Step, lesson: Lesson, logits: Tensor, shown: Tensor) -> Tensor:
        """() loss of float32 logits (B, C), of which InfoBatch takes note."""
        if self._sampler is None or step.weights is None:
            return lesson.loss(logits, step.rows, shown)
        losses = lesson.losses(logits, step.rows)
        self._sampler.update(step.rows, losses)
        return (losses * send(step.weights, losses.device)).mean()
