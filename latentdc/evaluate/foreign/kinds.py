"""What a path holds that is none of our own sets. Imports no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from PIL import Image

from latentdc.config import RECIPE

Kind = Literal["images", "rows", "tensors"]
TENSORS = (".pt", ".pth", ".npz")
BEST = "images_best.pt"  # beside labels_best.pt, in the folder of an MTT run
SPLIT = "train"


def kind_of(path: Path) -> Kind | None:
    """`images`: folders of image files; `rows`: parquet files; `tensors`: torch.save or npz.

    None where it is none of them, or a run of latentdc.
    """
    if path.is_file():
        return "tensors" if path.suffix.lower() in TENSORS else None
    if not path.is_dir() or (path / RECIPE).is_file():
        return None
    found: Mapping[Kind, Callable[[Path], bool]] = {
        "tensors": lambda folder: (folder / BEST).is_file(),
        "rows": lambda folder: bool(parquet_files(folder)),
        "images": lambda folder: any(map(_holds_images, class_folders(folder))),
    }
    return next((kind for kind, holds in found.items() if holds(path)), None)


def class_folders(folder: Path) -> list[Path]:
    """One for each class, in lexicographic order: of the folder, or of its split `train`.

    A `train` with pictures of its own, or beside folders with pictures, is a class of that name.
    """
    found = _folders(folder)
    split = folder / SPLIT
    if split in found and not any(map(_holds_images, found)):
        inside = _folders(split)
        if any(map(_holds_images, inside)):
            return inside
    return found


def image_files(folder: Path) -> list[Path]:
    """Files with the suffix of an image format, at any depth, in lexicographic order."""
    return sorted(
        path
        for path in folder.rglob("*")
        if _is_image(path) and not any(map(_hidden, path.relative_to(folder).parts))
    )


def parquet_files(folder: Path) -> list[Path]:
    """Those of its own and of its `data/` or `train/`, as Hub data sets have them."""
    found = [
        file for place in ("", "data/", f"{SPLIT}/") for file in folder.glob(f"{place}*.parquet")
    ]
    return sorted(file for file in found if file.is_file() and not _hidden(file.name))


def _folders(folder: Path) -> list[Path]:
    return sorted(e for e in folder.iterdir() if e.is_dir() and not _hidden(e.name))


def _holds_images(folder: Path) -> bool:
    return any(_is_image(file) and not _hidden(file.name) for file in folder.iterdir())


def _hidden(name: str) -> bool:
    """What systems leave beside data: .ipynb_checkpoints, ._1.png, @eaDir, __MACOSX."""
    return name.startswith((".", "@")) or name == "__MACOSX"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in Image.registered_extensions() and path.is_file()
