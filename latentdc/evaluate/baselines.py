"""Random images as a synthetic set: the row that every score stands beside."""

import torch

from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.errors import InputError


def random_images(dataset: Dataset, ipc: int, seed: int) -> Dataset:
    """`ipc` different images of each class, drawn by (seed, class), ordered by class.

    Raises:
        InputError: a class has fewer images.
    """
    picked = []
    for label, name in enumerate(dataset.class_names):
        members = dataset.members(label)
        if len(members) < ipc:
            raise InputError(
                f"{dataset.name} has {len(members)} images of class {name!r}, a random row of ipc "
                f"{ipc} needs as many. Choose a smaller ipc, or keep more images (prune.keep)."
            )
        source = generator(seed, "random images", label)
        picked.append(members[choose(len(members), ipc, source)])
    return dataset.select(torch.cat(picked))
