"""What a path holds that is none of our own sets. Imports no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from PIL import Image

from latentdc.config import RECIPE

Kind = Literal["images", "rows", "tensors"]
TENSORS = (".pt", ".pth")
BEST = "images_best.pt"  # beside labels_best.pt, in the folder of an MTT run


def kind_of(path: Path) -> Kind | None:
    """`images`: folders of image files; `rows`: parquet files; `tensors`: a file of torch.save.

    None where it is none of them, or a run of latentdc.
    """
    if path.is_file():
        return "tensors" if path.suffix in TENSORS else None
    if not path.is_dir() or (path / RECIPE).is_file():
        return None
    found: Mapping[Kind, Callable[[Path], bool]] = {
        "tensors": lambda folder: (folder / BEST).is_file(),
        "rows": lambda folder: bool(parquet_files(folder)),
        "images": lambda folder: any(_is_image(file) for file in folder.glob("*/*")),
    }
    return next((kind for kind, holds in found.items() if holds(path)), None)


def image_files(folder: Path) -> list[Path]:
    """Files with the suffix of an image format, at any depth, in lexicographic order."""
    return sorted(path for path in folder.rglob("*") if _is_image(path))


def parquet_files(folder: Path) -> list[Path]:
    """Those of its own and of its `data/`, as Hub data sets have them."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in Image.registered_extensions()
