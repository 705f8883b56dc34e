"""Random images as a synthetic set: the row that every score stands beside."""

from collections.abc import Sequence

import torch

from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.errors import InputError


def random_images(dataset: Dataset, ipc: int | Sequence[int], seed: int) -> Dataset:
    """Different images of each class (no exact repeats), drawn by (seed, class), ordered by class.

    Args:
        dataset: to draw from.
        ipc: images of every class, or of each one in label order.
        seed: of the draw.

    Raises:
        InputError: a class has fewer different images.
    """
    counts = [ipc] * dataset.num_classes if isinstance(ipc, int) else ipc
    picked = []
    for label, (name, count) in enumerate(zip(dataset.class_names, counts, strict=True)):
        members, rows = dataset.different(label), len(dataset.members(label))
        if len(members) < count:
            repeats = "" if len(members) == rows else f" ({len(members)} different ones)"
            raise InputError(
                f"{dataset.name} has {rows} images of class {name!r}{repeats}, a random row of ipc "
                f"{count} needs as many. Choose a smaller ipc, or keep more images (prune.keep)."
            )
        source = generator(seed, "random images", label)
        picked.append(members[choose(len(members), count, source)])
    return dataset.select(torch.cat(picked))
