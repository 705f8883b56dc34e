"""Keyed batches: the order of a pass over images, and the augmentation of each batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from latentdc.draws import generator
from latentdc.objectives.augment import Draw, draw_augmentation

Batch = tuple[Tensor, Draw | None]  # rows of the images, and their augmentation


def epoch_batches(
    count: int, batch: int, augmentation: str | None, seed: int, *keys: int | str
) -> Iterator[Batch]:
    """One pass over `count` images in an order drawn by (seed, keys); the last batch may be short.

    Args:
        count: of images.
        batch: images per step.
        augmentation: DSA strategy, of which each batch draws one kind, with parameters of its own
            for each image; None draws nothing.
        seed: of the draws.
        keys: of the pass, such as ("epoch", 3).
    """
    source = generator(seed, *keys)
    for rows in torch.randperm(count, generator=source).split(batch):
        yield rows, draw_augmentation(augmentation, source, samples=len(rows))
