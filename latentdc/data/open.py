"""Open one split, or both, of any data set that a recipe can name."""

import errno
import re
from pathlib import Path
from typing import Literal

from latentdc.arguments import require_a
from latentdc.autograd import with_gradients
from latentdc.data.cache import decoded
from latentdc.data.cifar import cifar_folder, cifar_split
from latentdc.data.dataset import Dataset
from latentdc.data.digits import open_digits
from latentdc.data.encoded import EncodedSplit
from latentdc.data.files import printable
from latentdc.data.folder import folder_split, is_class_tree
from latentdc.data.repeats import tell_repeats
from latentdc.data.vectors import open_vectors
from latentdc.errors import InputError
from latentdc.recipe import Data
from latentdc.typed import show


@with_gradients
def open_dataset(data: Data, split: Literal["train", "test"]) -> Dataset:
    """One split, decoded once at `data.resolution`.

    Raises:
        InputError: source, split, column or class that does not exist; an empty class or a single
            one; an image that cannot be decoded (with `data.unreadable=stop`).
    """
    require_a(Data, data, "data", "such as Data(source='digits')")
    if split not in ("train", "test"):
        raise InputError(f"split is 'train' or 'test', got {show(split)}; Data names the splits.")
    if data.kind == "vectors":
        return open_vectors(data, split)
    if data.source == "digits":
        return open_digits(data, split)
    return _decoded(data, encoded_split(data, split))


@with_gradients
def open_splits(data: Data) -> tuple[Dataset, Dataset]:
    """Training and test split of the same classes; nothing is decoded before both are found.

    Exact repeats, in training or between the two, are told in one line.

    Raises:
        InputError: as `open_dataset`, and where the two splits have other classes.
    """
    require_a(Data, data, "data", "such as Data(source='digits')")
    train, test = _splits(data)
    tell_repeats(train, test)
    return train, test


def _splits(data: Data) -> tuple[Dataset, Dataset]:
    if data.kind == "vectors":
        return open_vectors(data, "train"), open_vectors(data, "test")
    if data.source == "digits":
        return open_digits(data, "train"), open_digits(data, "test")
    train, test = encoded_split(data, "train"), encoded_split(data, "test")
    _require_same_classes(train, test)
    return _decoded(data, train), _decoded(data, test)


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


def _decoded(data: Data, split: EncodedSplit) -> Dataset:
    return decoded(split, resolution=data.resolution, unreadable=data.unreadable, folder=data.cache)


def encoded_split(data: Data, split: Literal["train", "test"]) -> EncodedSplit:
    """The files and labels of one split of a folder or of the Hub; nothing is decoded."""
    name = data.train if split == "train" else data.test
    source = Path(data.source).expanduser()
    try:
        if source.is_dir():
            return _local_split(data, source, split, name)
        if source.exists():
            raise InputError(
                f"data.source={data.source} is a file; give the folder that it lies in, or unpack "
                "it into one. (A file of feature vectors: data.kind=vectors.)"
            )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk is not the data set's fault
        place = printable(error.filename or data.source)
        raise InputError(
            f"cannot read {place[:200]}: {error.strerror or error}; data.source is 'digits', a "
            "folder or a Hub id."
        ) from error
    if not _may_be_hub_id(data.source):
        raise InputError(
            f"no folder {printable(data.source)}; data.source is 'digits', a folder, or a Hub id "
            "like uoft-cs/cifar10."
        )
    from latentdc.data.hub import hub_split  # importing `datasets` takes a second

    return hub_split(data, name)


def _local_split(
    data: Data, source: Path, split: Literal["train", "test"], name: str | None
) -> EncodedSplit:
    """Of a folder: one folder per class, CIFAR's binary files, or tables."""
    if is_class_tree(source, data.train):
        return folder_split(data, name)
    if (found := cifar_folder(source)) is not None:
        return cifar_split(data, *found, split)
    from latentdc.data.tables import holds_tables  # importing `datasets` takes a second

    if not holds_tables(source):
        holds = ", ".join(sorted(printable(path.name) for path in source.iterdir())[:10])
        raise InputError(
            f"{source} has neither parquet files nor a folder {data.train}/<class>/; "
            f"it holds {holds or 'nothing'}. (Files of feature vectors: data.kind=vectors.)"
        )
    from latentdc.data.hub import hub_split

    return hub_split(data, name)


def _may_be_hub_id(source: str) -> bool:
    return re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", source) is not None and source[0] != "."
