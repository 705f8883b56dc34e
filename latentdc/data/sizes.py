"""Sizes of data sets, so that a dry run can count without downloading or decoding them."""

from pathlib import Path
from typing import NamedTuple

from latentdc.data.files import exists
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


def kept_size(data: Data) -> Size | None:
    """Images and classes that a recipe keeps; None before the data set is downloaded.

    Of well-known data sets about, if only some classes are kept; a local folder is looked through,
    and nothing is decoded.

    Raises:
        InputError: a folder without such splits or classes.
    """
    known = KNOWN.get(data.source) if data.kind == "images" else None
    if known is None:
        return _counted(data) if exists(Path(data.source).expanduser()) else None
    classes = _chosen(data) or known.classes
    train, test = (round(count * classes / known.classes) for count in known[:2])
    return Size(train, test, classes)


def class_count(data: Data) -> int | None:
    """How many classes a recipe keeps; None where only the data set knows."""
    if (chosen := _chosen(data)) is not None:
        return chosen
    size = kept_size(data)
    return None if size is None else size.classes


def _chosen(data: Data) -> int | None:
    if data.subset is not None:
        return len(subset_indices(data.subset))
    return None if data.classes is None else len(data.classes)


def _counted(data: Data) -> Size:
    from latentdc.data.open import encoded_split  # imports torch
    from latentdc.data.vectors import vector_size

    if data.kind == "vectors":
        return vector_size(data)
    train, test = encoded_split(data, "train"), encoded_split(data, "test")
    return Size(len(train), len(test), len(train.class_names))
