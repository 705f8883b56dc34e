"""Keyed batches: the order of a pass over images, and the augmentation of each batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.networks.modes import needs_company
from latentdc.objectives.augment import Draw, draw_augmentation

Batch = tuple[Tensor, Draw | None]  # rows of the images, and their augmentation


def split(order: Tensor, batch: int, *, join: bool) -> list[Tensor]:
    """Batches of an epoch; with `join`, a last one of a single image joins the one before."""
    parts = list(order.split(batch))
    if join and len(parts) > 1 and len(parts[-1]) == 1 < batch:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def joins(network: str, *, num_classes: int, resolution: int, count: int, batch: int) -> bool:
    """Whether a training has to `join` a last single image: where batch norm would refuse it.

    All other trainings see it alone.

    Args:
        network: its name.
        num_classes: of its logits.
        resolution: of its images, in pixels; or values of its vectors.
        count: of images to train on.
        batch: images per step.

    Raises:
        InputError: there would be nothing to join.
    """
    if not needs_company(network, num_classes, resolution):
        return False
    if min(count, batch) == 1:
        raise InputError(
            f"{network} cannot learn from one image of {resolution} px at a time, because its "
            "batch norm would see one value per channel; take batches of 2 images or more, or "
            "another network."
        )
    return True


def epoch_batches(
    count: int,
    batch: int,
    augmentation: str | None,
    seed: int,
    *keys: int | str,
    join: bool = False,
) -> Iterator[Batch]:
    """One pass over `count` images in an order drawn by (seed, keys); the last batch may be short.

    Args:
        count: of images.
        batch: images per step.
        augmentation: DSA strategy, of which each batch draws one kind, with parameters of its own
            for each image; None draws nothing.
        seed: of the draws.
        keys: of the pass, such as ("epoch", 3).
        join: as of `split`.
    """
    source = generator(seed, *keys)
    for rows in split(torch.randperm(count, generator=source), batch, join=join):
        yield rows, draw_augmentation(augmentation, source, samples=len(rows))
