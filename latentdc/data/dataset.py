"""`Dataset`: labelled real images, decoded once; or feature vectors."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latentdc.data.mapped import Images, MappedImages
from latentdc.data.repeats import different_rows
from latentdc.samples import Kind, kind_of


@dataclass(frozen=True)
class Dataset:
    """One split of a labelled set of images, decoded once at one resolution.

    Attributes:
        images: (N, 3, H, W) uint8, in memory or memory-mapped; index them in batches. Or (N, D)
            float16 or float32: feature vectors.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
        hashes: (N,) int64 content hash of each sample: the same image has the same hash in every
            copy of the data set, whatever its path or position.
        name: source and split, for messages.
    """

    images: Images
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
        """Height and width in pixels; of vectors, the number of their values."""
        return int(self.images.shape[-1])

    @property
    def kind(self) -> Kind:
        """Of its samples."""
        return kind_of(self.images)

    def members(self, label: int) -> Tensor:
        """Ascending indices (M,) of the samples of one class."""
        return self._members[label]

    def different(self, label: int) -> Tensor:
        """`members` without exact repeats: of one content the first."""
        members = self._members[label]
        return members[different_rows(self.hashes[members], self.labels[members])]

    @cached_property
    def _members(self) -> tuple[Tensor, ...]:
        counts = torch.bincount(self.labels, minlength=self.num_classes)
        members: tuple[Tensor, ...] = self.labels.argsort(stable=True).split(counts.tolist())
        return members

    def select(self, indices: Tensor) -> "Dataset":
        """The samples at `indices` (M,), in that order; classes keep their labels.

        Memory-mapped images stay where they are: the part is a view of them.
        """
        images = self.images
        return Dataset(
            images=images.select(indices) if isinstance(images, MappedImages) else images[indices],
            labels=self.labels[indices],
            class_names=self.class_names,
            hashes=self.hashes[indices],
            name=self.name,
        )


def class_counts(dataset: Dataset) -> Tensor:
    """(C,) number of samples of each class."""
    return torch.bincount(dataset.labels, minlength=dataset.num_classes)


def different_counts(dataset: Dataset) -> Tensor:
    """(C,) number of different samples of each class, without exact repeats."""
    rows = different_rows(dataset.hashes, dataset.labels)
    return torch.bincount(dataset.labels[rows], minlength=dataset.num_classes)
