"""The steps of trainings: which images each one takes, as which views; also of several together."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from latentdc.augment.views import Draws, draw_views
from latentdc.images import Images, MappedImages, place
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet
from latentdc.training import Batch, RandomSubsets, Sampler, epoch_batches


class SoftLabels(Protocol):
    """The teachers' logits of the views that a training sees."""

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """Seed and epoch of the views that training `seed` shows in its `epoch`."""

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """(B, C) logits for the images at `rows` (B,), whose `views` are (B, 3, H, W)."""


class TrainingStep(NamedTuple):
    """What a student sees in one update.

    Attributes:
        number: of the last step of the budget that it stands for. These are consecutive, unless
            InfoBatch or a joined batch shortens epochs: their fewer steps are spread over as much
            of the schedule.
        batch: images, their DSA augmentation and weights.
        draws: views of all images in this epoch.
        parts: the steps of several trainings, whose sets stand one after another, in one; () else.
    """

    number: int
    batch: Batch
    draws: Draws
    parts: "tuple[TrainingStep, ...]" = ()

    def mixed(self, values: Tensor) -> Tensor:
        """(B,) values of the views, from (N,) of all images; mixed where the images are."""
        rows = self.batch.rows
        if "partner" not in self.draws:
            return values[rows]
        partners = values[self.draws["partner"][rows]]
        return torch.lerp(partners, values[rows], self.draws["kept"][rows])


def training_steps(
    labelled: SyntheticSet,
    protocol: EvalProtocol,
    seed: int,
    *,
    join: bool = False,
    sampler: Sampler | None = None,
    soft: SoftLabels | None = None,
) -> Iterator[TrainingStep]:
    """The steps of a training, drawn by (seed, epoch); `join` and `sampler` as of `epoch_batches`.

    Without a sampler an epoch sees all images, or the protocol's `subset` of them.
    """
    count, size = len(labelled.labels), labelled.images.shape[-1]
    per_epoch = protocol.epoch_steps(count)
    if protocol.subset is not None:
        sampler = RandomSubsets(count, protocol.seen(count), seed=seed)
    for epoch in range(protocol.epochs_on(count)):
        source = (seed, epoch) if soft is None else soft.replay(seed, epoch)
        draws = draw_views(protocol.views, count=count, size=size, seed=source[0], epoch=source[1])
        batches = epoch_batches(
            count,
            protocol.batch,
            protocol.augment,
            seed,
            "epoch",
            epoch,
            join=join,
            sampler=sampler,
        )
        for index, batch in enumerate(batches, start=1):
            number = epoch * per_epoch + math.ceil(index * per_epoch / len(batches)) - 1
            if number >= protocol.budget:
                break
            yield TrainingStep(number, batch, draws)


def joined_images(sets: Sequence[SyntheticSet], device: torch.device) -> Images:
    """The placed images of all sets, one after another; those of one set only once in memory."""
    first = sets[0].images
    if all(one.images is first for one in sets):
        placed = place(first, device)
        if len(sets) == 1:
            return placed
        rows = torch.arange(len(placed), device=placed.device).repeat(len(sets))
        mapped = placed if isinstance(placed, MappedImages) else MappedImages(placed)
        return mapped.select(rows)
    return place(torch.cat([one.images[slice(None)] for one in sets]), device)


def joined_steps(each: Sequence[Iterator[TrainingStep]], count: int) -> Iterator[TrainingStep]:
    """The steps of trainings on `count` images each as one's, on their sets one after another."""
    source, draws = None, {}
    for parts in zip(*each, strict=True):
        if parts[0].draws is not source:  # another epoch
            source = parts[0].draws
            draws = {key: torch.cat([part.draws[key] for part in parts]) for key in source}
            if "partner" in draws:
                offsets = count * torch.arange(len(parts))
                draws["partner"] += offsets.repeat_interleave(count)
        rows = torch.cat([count * place + part.batch.rows for place, part in enumerate(parts)])
        yield TrainingStep(parts[0].number, Batch(rows, None), draws, parts)
