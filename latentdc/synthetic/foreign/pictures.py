"""Encoded pictures: a folder of image files for each class, or a table of images and labels.

Folders are those of SRe2L (`new003/`), RDED (`00003/class00003_id00000.jpg`), ImageNet
(`n01440764/`, `train/n01440764/`) and those that are named by class. Tables are parquet files or
what `save_to_disk` of `datasets` wrote, with columns such as rethinkdc's `image` and `class_id`.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdc.data.decode import FORMATS, UNREADABLE, open_picture, to_rgb
from latentdc.data.encoded import EncodedSplit
from latentdc.data.files import LeftOut, is_saved, split_files
from latentdc.data.folder import picture_files
from latentdc.errors import InputError, first_line
from latentdc.synthetic.foreign.kinds import SPLIT, class_folders, parquet_files
from latentdc.synthetic.foreign.naming import Read, labels_of_names, require_classes
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.synthetic_set import SyntheticSet, first_of_each

_WANTED = "a set has one of each, such as rethinkdc's image and class_id"


def read_pictures(
    split: EncodedSplit,
    class_names: tuple[str, ...],
    ipc: int | None,
    numbers: Numbers | None = None,
    size: int | None = None,
) -> Read:
    """The pictures in order of the test set's classes, of each the first `ipc` or all.

    `size` is the height and width of the test set's images; None takes any.

    Raises:
        InputError: other classes than the test set's, a class without images, or images that cannot
            be decoded or have another size.
    """
    known, numbering = labels_of_names(split.class_names, class_names, split.name, numbers)
    labels = torch.tensor(known)[split.labels]
    require_classes(labels, class_names, split.name)
    rows = torch.tensor(first_of_each(labels, ipc or len(labels)))
    rows = rows[labels[rows].argsort(stable=True)]
    images = _decoded(split, rows.tolist(), size)
    return SyntheticSet(images, labels[rows], class_names), numbering


def folder_pictures(folder: Path) -> EncodedSplit:
    """Image files by class, in lexicographic order."""
    homes = {home.name: [home] for home in class_folders(folder)}
    return picture_files(str(folder), homes, LeftOut())


def table_pictures(folder: Path, label: str | None = None) -> EncodedSplit:
    """The rows of the split `train`, of files that name none, or of the only split.

    `label` is the label column of the real data, which tells several apart.
    """
    # Importing `datasets` takes a second.
    from latentdc.data.hub import saved_tables
    from latentdc.data.parquet import read_parquet
    from latentdc.data.tables import encoded_table

    if is_saved(folder):
        tables = saved_tables(folder)
    else:
        names = {path.relative_to(folder).as_posix(): path for path in parquet_files(folder)}
        splits = split_files(names, folder)
        tables = {split: partial(read_parquet, splits[split], folder) for split in splits}
    opened = tables.get(SPLIT) or tables.get("")
    if opened is None and len(tables) > 1:
        raise InputError(
            f"{folder} has the splits {', '.join(tables)} and none of {SPLIT}; rename those of the "
            f"set, such as {SPLIT}.parquet."
        )
    table = (opened or next(iter(tables.values())))()
    label = label if label in table.features else None
    return encoded_table(table, str(folder), label=label, advice=_WANTED)


def _decoded(split: EncodedSplit, rows: Sequence[int], size: int | None) -> Tensor:
    """(N, 3, H, W) uint8 at the rows, of which memory holds one copy.

    Nothing larger than the first image is decoded, nor that one where it has not the given size.
    """
    levels, first = torch.empty(0), ""
    wanted = None if size is None else (size, size)
    for place, row in enumerate(rows):
        name = split.locate(row)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = open_picture(split.read(row))
            with image:
                if wanted is not None and image.size != wanted and image.size[::-1] != wanted:
                    raise _other_size(image.size, wanted, name, first, split.name)
                picture = to_rgb(image)
        except InputError:
            raise
        except UNREADABLE as error:
            reason = first_line(error)
            if "cannot identify" in reason:
                reason = f"it is none of {', '.join(FORMATS)}, or is damaged"
            raise InputError(f"cannot decode {name}: {reason}.") from error
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        if not first:
            first, wanted = name, picture.size
            levels = shown.new_empty((len(rows), *shown.shape))
        if picture.size != wanted:
            raise _other_size(picture.size, wanted, name, first, split.name)
        levels[place] = shown
    return levels


def _other_size(
    found: tuple[int, int], wanted: tuple[int, int] | None, name: str, first: str, source: str
) -> InputError:
    """Widths and heights; `first` names the image that has the wanted one, empty for the data."""
    (w, h), (width, height) = wanted or (0, 0), found
    if first:
        return InputError(
            f"{source} has images of different sizes: {w}x{h} px in {first}, {width}x{height} px "
            f"in {name}; a set has one size."
        )
    how = f"open the data with data.resolution={width}" if width == height else "a set has one size"
    return InputError(
        f"{name} is an image of {width}x{height} px, and the test set's are {w}x{h} px; {how}."
    )
