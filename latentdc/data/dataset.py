"""`Dataset`: labelled real images, decoded once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """One split of a labelled set of images, decoded once at one resolution.

    Attributes:
        images: (N, 3, H, W) uint8, in memory or memory-mapped.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
        hashes: (N,) int64 content hash of each sample: the same image has the same hash in every
            copy of the data set, whatever its path or position.
        name: source and split, for messages.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    hashes: Tensor
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[-1])

    def members(self, label: int) -> Tensor:
        """Ascending indices (M,) of the samples of one class."""
        return (self.labels == label).nonzero().squeeze(1)

    def select(self, indices: Tensor) -> "Dataset":
        """The samples at `indices` (M,), in that order; classes keep their labels."""
        return Dataset(
            images=self.images[indices],
            labels=self.labels[indices],
            class_names=self.class_names,
            hashes=self.hashes[indices],
            name=self.name,
        )


def class_counts(dataset: Dataset) -> Tensor:
    """(C,) number of samples of each class."""
    return torch.bincount(dataset.labels, minlength=dataset.num_classes)
