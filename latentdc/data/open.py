"""Open one split, or both, of any data set that a recipe can name; count it; preprocess it."""

import os
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from latentdc.arguments import refuse_broken_link, require_a
from latentdc.data.cifar import cifar_split
from latentdc.data.dataset import Dataset, note_repeats
from latentdc.data.decode import open_picture, to_rgb
from latentdc.data.digits import digits_split
from latentdc.data.encoded import EncodedSplit, decoded
from latentdc.data.files import Split, files_below, is_saved, usual_split
from latentdc.data.folder import flat_split, folder_split
from latentdc.data.tar import tar_split
from latentdc.data.vectors import kept_vectors, open_vectors
from latentdc.errors import InputError, counted, is_full
from latentdc.modes import in_plain_modes
from latentdc.plain_text import printable
from latentdc.preprocessing import (
    Normalization,
    Preprocessing,
    Unwhitened,
    cached_whitening,
    fit_standardization,
)
from latentdc.recipe import Data
from latentdc.recipe.fields import show
from latentdc.recipe.own import call, is_own, resolve
from latentdc.recipe.subsets import subset_indices


class Size(NamedTuple):
    """Images of the training and of the labelled test split, and classes.

    `smallest` counts the training images of the smallest class; None where it is not known.
    """

    train: int
    test: int
    classes: int
    smallest: int | None = None


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


@in_plain_modes
def open_dataset(data: Data, split: Split) -> Dataset:
    """One split, decoded once at `data.resolution`.

    Raises:
        InputError: source, split, column or class that does not exist; an empty class or a single
            one; an image that cannot be decoded (with `data.unreadable=stop`).

    Examples:
        >>> latentdc.open_dataset(latentdc.Data(source="digits", resolution=8), "test")
        Dataset(360 images of 8 px, uint8, 10 classes: '0', '1', '2', ..., 'digits test')
    """
    require_a(Data, data, "data", "such as Data(source='digits')")
    if not isinstance(split, str) or split not in ("train", "test"):
        raise InputError(f"split is 'train' or 'test', got {show(split)}; Data names the splits.")
    if is_own(data.source) or data.test_share is not None:
        return open_splits(data)[split == "test"]
    return _opened(data, split)[0]


@in_plain_modes
def open_splits(data: Data) -> tuple[Dataset, Dataset]:
    """Training and test split of the same classes; nothing is decoded before both are found.

    Exact repeats, in training or between the two, are told in one line.

    Raises:
        InputError: as `open_dataset`, and where the two splits have other classes.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> train
        Dataset(1,437 images of 8 px, uint8, 10 classes: '0', '1', '2', ..., 'digits train')
        >>> len(test)
        360
    """
    require_a(Data, data, "data", "such as Data(source='digits')")
    if is_own(data.source):
        train, test = _own(data)
    elif data.test_share is not None:
        train, test = _opened(data, "train")[0].split(data.test_share)
    else:
        train, test = _opened(data, "train", "test")
    note_repeats(train, test)
    return train, test


def _opened(data: Data, *splits: Split) -> list[Dataset]:
    """Splits as the source has them, whatever is tested on."""
    if data.kind == "vectors":
        return [open_vectors(data, split) for split in splits]
    encoded = [encoded_split(data, split) for split in splits]
    if len(encoded) == 2:
        _require_same_classes(*encoded)
    return [Dataset(**decoded(split, data)) for split in encoded]


class Opened(NamedTuple):
    """What a run uses of a data set: the training split, and what is opened when it is called for.

    That is the test split, and whole pictures (see `whole_pictures`).
    """

    train: Dataset
    open_test: Callable[[], Dataset]
    open_pictures: Callable[[], Callable[[int], Image.Image] | None]


OpenData = Callable[[Data, bool], Opened]  # see `open_used`


def open_used(data: Data, tests: bool) -> Opened:
    """The training split, and the rest when it is called for; raises as `open_splits`.

    The test split at once too where it is used for sure (`tests`).
    """
    if tests or is_own(data.source) or data.test_share is not None:  # which give both at once
        train, test = open_splits(data)
        return Opened(train, lambda: test, partial(whole_pictures, data, train))
    train = open_dataset(data, "train")
    open_test = cache(lambda: open_splits(data)[1])
    return Opened(train, open_test, partial(whole_pictures, data, train))


def _own(data: Data) -> tuple[Dataset, Dataset]:
    """What the user's function returns or was passed: both splits, or one to be divided."""
    label = f"data.source={data.source.partition('#')[0]}"
    if data.classes is not None or data.subset is not None:
        raise InputError(f"{label} chooses classes itself; leave out data.classes and data.subset.")
    make = resolve(data.source, "data.source")
    passed = isinstance(make, Dataset | tuple | list)
    gives = "is" if passed else "returns"
    made = make if passed else call(make, "data.source", data.source, resolution=data.resolution)
    if isinstance(made, Dataset) and data.test_share is not None:
        made = made.split(data.test_share)
    if not isinstance(made, tuple | list) or [*map(type, made)] != [Dataset, Dataset]:
        parts = made if isinstance(made, tuple | list) else [made]
        got = ", ".join(type(one).__name__ for one in parts[:3]) or "nothing"
        raise InputError(
            f"{label} {gives} (train, test), two latentdc.Dataset such as of Dataset.from_arrays, "
            f"or a single one with data.test_share=0.2; got {got}."
        )
    train, test = made
    if train.class_names != test.class_names or train.resolution != test.resolution:
        raise InputError(f"{label} {gives} two splits of other classes or sizes.")
    if train.kind != data.kind or data.size not in (None, train.resolution):
        raise InputError(
            f"{label} {gives} {train.kind} of {train.resolution}, and data.kind={data.kind} with "
            f"data.resolution={data.resolution} is meant; write what it has."
        )
    return train, test


def _require_same_classes(train: EncodedSplit, test: EncodedSplit) -> None:
    if train.class_names == test.class_names:
        return
    what = []
    for here, there in ((train, test), (test, train)):
        if only := [name for name in here.class_names if name not in set(there.class_names)]:
            more = ", ..." if len(only) > 10 else ""
            what.append(f"{len(only)} only in {here.name}: {', '.join(only[:10])}{more}")
    advice = "; name the classes that both have with data.classes=[...]" if what else ""
    raise InputError(
        f"{train.name} ({len(train.class_names)} classes) and {test.name} "
        f"({len(test.class_names)}) have other classes: "
        f"{'; '.join(what) or 'their order differs'}{advice}."
    )


def encoded_split(data: Data, split: Split) -> EncodedSplit:
    """The encoded images of one split of any source, of the classes that `data` keeps.

    Nothing is decoded.
    """
    try:
        return next(one for read in READERS if (one := read(data, split)) is not None)
    except OSError as error:
        if is_full(error):
            raise  # a full disk is not the data set's fault
        place = printable(error.filename or data.source)
        raise InputError(
            f"cannot read {place[:200]}: {error.strerror or error}; data.source is 'digits', a "
            "folder or a Hub id."
        ) from error


def _table_split(data: Data, split: Split) -> EncodedSplit:
    """One split of the Hub's tables, or of those in a folder; others are refused."""
    source = Path(data.source)
    refuse_broken_link(source, f"data.source={printable(data.source)}")
    if source.exists() and not source.is_dir():
        raise InputError(
            f"data.source={data.source} is a file; give the folder that it lies in, or unpack it "
            "into one. (A file of feature vectors: data.kind=vectors.)"
        )
    if not source.exists() and not re.fullmatch(r"[\w-][\w.-]{0,95}(/[\w.-]{1,96})?", data.source):
        raise InputError(
            f"no folder {printable(data.source)}; data.source is 'digits', a folder, or a Hub id "
            "like uoft-cs/cifar10."
        )
    if source.is_dir() and not is_saved(source) and not files_below(source, {".parquet"}):
        found = sorted(path.name for path in source.iterdir())
        holds = ", ".join(map(printable, found[:10]))
        other = next((n for n in found if usual_split(n) == "train" and n != data.train), None)
        named = f" Name the splits, such as data.train={printable(other)}." if other else ""
        raise InputError(
            f"{source} has no parquet or tar files and no folder {data.train}/<class>/; it holds "
            f"{holds or 'nothing'}.{named} (Files of feature vectors: data.kind=vectors.)"
        )
    from latentdc.data.tables import table_split  # importing `datasets` takes a second

    return table_split(data, split)


# Asked in this order for a split. Each says None of a source of another form; the last refuses it.
READERS: tuple[Callable[[Data, Split], EncodedSplit | None], ...] = (
    digits_split,
    folder_split,
    cifar_split,
    flat_split,
    tar_split,
    _table_split,
)


def preprocessing(data: Data, train: Dataset) -> Preprocessing:
    """Normalisation, and with `data.zca` the whitening of the whole training split.

    The whitening is computed once and kept in the cache, which has to be writable. Vectors are
    standardised.
    """
    if not data.zca:
        return plain_preprocessing(data, train)
    normalization = Normalization(data.mean, data.std)
    return cached_whitening(data.cache_folder, train.images, normalization, train.hash)


def plain_preprocessing(data: Data, train: Dataset) -> Unwhitened:
    """What scorers see: normalised images, never whitened; standardised vectors."""
    if train.kind == "images":
        return Normalization(data.mean, data.std)
    return fit_standardization(train.images, name=train.hash)


def kept_size(data: Data) -> Size | None:
    """Images and classes that a recipe keeps; None before the data set is downloaded.

    Of well-known data sets about, if only some classes are kept; a local folder is looked through,
    and nothing is decoded.

    Raises:
        InputError: a folder without such splits or classes.
    """
    known = KNOWN.get(data.source) if data.kind == "images" else None
    smallest: int | None = None
    if known is not None:
        classes = _chosen(data) or known.classes
        train, test = (round(count * classes / known.classes) for count in known[:2])
    elif not os.path.exists(data.source):
        return None
    else:
        find = kept_vectors if data.kind == "vectors" else encoded_split
        kept = find(data, "train")
        train, classes = len(kept.labels), len(kept.class_names)
        test = 0 if data.test_share else len(find(data, "test").labels)
        smallest = int(kept.labels.bincount(minlength=classes).min())
    if data.test_share is not None:
        test = round(data.test_share * train)
        train -= test
        if smallest is not None:  # at most: repeats stay together
            smallest -= int(data.test_share * smallest)
    return Size(train, test, classes, smallest)


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


def whole_pictures(data: Data, train: Dataset) -> Callable[[int], Image.Image] | None:
    """Row of `train` -> upright RGB image as its file holds it, before it was cut to a square.

    None where they were square already, as digits are.

    Raises:
        InputError: files were left out of `train`, so that rows are not files.
    """
    if data.source == "digits" or is_own(data.source):
        return None
    split = encoded_split(data, "train")
    opened = train if data.test_share is None else Dataset(**decoded(split, data))
    if len(split) != len(opened):
        raise InputError(
            f"{split.name} has {counted(len(split) - len(opened), 'image')} that cannot be "
            "decoded, and whole images are read from their files again; remove those, or set "
            "mosaic.fit=center."
        )
    rows = list(range(len(train)))
    if data.test_share is not None:
        rows = (~opened.test_rows(data.test_share)).nonzero().flatten().tolist()

    def picture(row: int) -> Image.Image:
        with open_picture(split.read(rows[row])) as image:
            return to_rgb(image)

    return picture
