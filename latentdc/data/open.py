"""Open one split, or both, of any data set that a recipe can name."""

from pathlib import Path
from typing import Literal

from latentdc.arguments import require_a
from latentdc.autograd import with_gradients
from latentdc.data.cache import decoded
from latentdc.data.dataset import Dataset
from latentdc.data.digits import open_digits
from latentdc.data.encoded import EncodedSplit
from latentdc.data.folder import folder_split, is_class_tree
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

    Raises:
        InputError: as `open_dataset`, and where the two splits have other classes.
    """
    require_a(Data, data, "data", "such as Data(source='digits')")
    if data.kind == "vectors":
        return open_vectors(data, "train"), open_vectors(data, "test")
    if data.source == "digits":
        return open_digits(data, "train"), open_digits(data, "test")
    train, test = encoded_split(data, "train"), encoded_split(data, "test")
    if train.class_names != test.class_names:
        only = sorted(set(train.class_names) ^ set(test.class_names))
        what = f"only one of them has {', '.join(only[:10])}" if only else "their order differs"
        raise InputError(f"{train.name} and {test.name} have other classes: {what}.")
    return _decoded(data, train), _decoded(data, test)


def _decoded(data: Data, split: EncodedSplit) -> Dataset:
    return decoded(split, resolution=data.resolution, unreadable=data.unreadable, folder=data.cache)


def encoded_split(data: Data, split: Literal["train", "test"]) -> EncodedSplit:
    """The files and labels of one split of a folder or of the Hub; nothing is decoded."""
    name = data.train if split == "train" else data.test
    source = Path(data.source).expanduser()
    if source.is_dir() and is_class_tree(source, data.train):
        return folder_split(data, name)
    if source.is_dir() and next(source.rglob("*.parquet"), None) is None:
        holds = ", ".join(sorted(path.name for path in source.iterdir())[:10]) or "nothing"
        raise InputError(
            f"{source} has neither parquet files nor a folder {data.train}/<class>/; "
            f"it holds {holds}. (Files of feature vectors: data.kind=vectors.)"
        )
    if not source.is_dir() and not _may_be_hub_id(data.source):
        raise InputError(
            f"no folder {data.source}; data.source is 'digits', a folder, or a Hub id like "
            "uoft-cs/cifar10."
        )
    from latentdc.data.hub import hub_split  # importing `datasets` takes a second

    return hub_split(data, name)


def _may_be_hub_id(source: str) -> bool:
    return source.count("/") <= 1 and not source.startswith((".", "/", "~"))
