"""What a path holds that latentdc did not write. Imports no torch."""

import os
from pathlib import Path
from typing import Literal

from latentdc.config import RECIPE
from latentdc.data.decode import SUFFIXES
from latentdc.data.files import is_clutter, is_saved, subfolders
from latentdc.synthetic.folder import PROVENANCE

ForeignKind = Literal["images", "rows", "tensors"]
_TENSORS = (".pt", ".pth", ".npz")
BEST = "images_best.pt"  # beside labels_best.pt, in the folder of an MTT run
SPLIT = "train"


def foreign_kind(path: Path) -> ForeignKind | None:
    """`images`: folders of image files; `rows`: tables; `tensors`: torch.save or npz.

    None where it is none of them, or a run of latentdc.
    """
    if path.is_file():
        return "tensors" if path.suffix.lower() in _TENSORS else None
    if not path.is_dir() or (path / RECIPE).is_file():
        return None
    if (path / BEST).is_file():
        return "tensors"
    if is_saved(path) or parquet_files(path):
        return "rows"
    return "images" if any(_holds_images(one, 1) for one in class_folders(path)) else None


def class_folders(folder: Path) -> list[Path]:
    """One for each class, in lexicographic order: of the folder, or of its split `train`.

    A `train` with pictures of its own, or beside folders with pictures, is a class of that name.
    """
    found = subfolders(folder)
    split = folder / SPLIT
    if split in found and not any(map(_holds_images, found)):
        inside = subfolders(split)
        if any(_holds_images(one, 1) for one in inside):
            return inside
    return found


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files in the folder and in its `data/` or `train/`, as Hub data sets have them."""
    found = [
        file for place in ("", "data/", f"{SPLIT}/") for file in folder.glob(f"{place}*.parquet")
    ]
    return sorted(file for file in found if file.is_file() and not is_clutter(file.name))


def _holds_images(folder: Path, below: int = 0) -> bool:
    """Whether pictures lie in a folder, or in folders of it so far below; none of our sets."""
    if os.path.lexists(folder / PROVENANCE):
        return False
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if any(file.is_file() and not is_clutter(file.name) for file in files):
        return True
    return below > 0 and any(_holds_images(one, below - 1) for one in subfolders(folder))
