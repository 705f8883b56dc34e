"""The layouts in which others leave their sets, written as their code writes them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def picture(shade: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, (shade, 255 - shade, 7))


def rded(root: Path, classes: int, ipc: int, size: int = 8) -> Path:
    """`00003/class00003_id00000.jpg`; here PNG inside, so that levels can be compared."""
    for label in range(classes):
        folder = root / f"{label:05d}"
        folder.mkdir(parents=True)
        for index in range(ipc):
            image = picture(10 * label + index, (size, size))
            image.save(folder / f"class{label:05d}_id{index:05d}.png")
    return root


def named(root: Path, names: list[str], ipc: int = 2) -> Path:
    """One folder for each name; the shade is the place in the list."""
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(ipc):
            picture(10 * shade + index).save(root / name / f"{index}.png")
    return root


def dc(path: Path, images: Tensor, labels: Tensor, experiments: int = 1) -> Path:
    """DC, DSA and DM: all experiments in one file, beside accuracies as NumPy scalars."""
    data = [[images + index, labels] for index in range(experiments)]
    accuracies = {"ConvNet": [np.float64(0.5), np.float64(0.6)]}
    torch.save({"data": data, "accs_all_exps": accuracies}, path)
    return path


def mtt(folder: Path, images: Tensor, labels: Tensor, lr: float | None = None) -> Path:
    """MTT, TESLA, DATM, GLaD: a file for images, labels and, where it was learned, the rate."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(images, folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    if lr is not None:
        torch.save(torch.tensor(lr), folder / "lr_best.pt")
    return folder
