"""Sizes of well-known data sets, so that a dry run can count without downloading them."""

from typing import NamedTuple

from latentdc.data.subsets import subset_indices
from latentdc.recipe import Data


class Size(NamedTuple):
    """Images of the training and of the labelled test split, and classes."""

    train: int
    test: int
    classes: int


KNOWN = {
    "digits": Size(1437, 360, 10),
    "ylecun/mnist": Size(60000, 10000, 10),
    "zalando-datasets/fashion_mnist": Size(60000, 10000, 10),
    "uoft-cs/cifar10": Size(50000, 10000, 10),
    "uoft-cs/cifar100": Size(50000, 10000, 100),
    "zh-plus/tiny-imagenet": Size(100000, 10000, 200),
    "frgfm/imagenette": Size(9469, 3925, 10),
    "ILSVRC/imagenet-1k": Size(1281167, 50000, 1000),
}


def class_count(data: Data) -> int | None:
    """How many classes a recipe keeps; None where only the data set knows."""
    if data.subset is not None:
        return len(subset_indices(data.subset))
    if data.classes is not None:
        return len(data.classes)
    size = KNOWN.get(data.source)
    return None if size is None else size.classes
