"""Feature vectors in Gaussian clusters, one per class, whose values come in different units."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdc.data.open import open_splits
from latentdc.recipe import Data

CLASSES, WIDTH = 4, 16


def clusters(per_class: int, seed: int, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """(N, WIDTH) float32 and (N,) labels; value i is in units of 10 ** (i % 4)."""
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(CLASSES).repeat(per_class)
    noise = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(seed))
    units = 10.0 ** (torch.arange(WIDTH) % 4)
    return (centres[labels] + spread * noise) * units + 3 * units, labels


def write(folder: Path, per_class: int = 40, **arrays: np.ndarray) -> Path:
    """A data set of .npy files; `arrays` take the place of files by their names."""
    files = {}
    for split, seed in (("train", 1), ("test", 2)):
        vectors, labels = clusters(per_class, seed)
        files |= {split: vectors.numpy(), f"{split}_labels": labels.numpy()}
    folder.mkdir(exist_ok=True)
    for name, array in {**files, **arrays}.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def opened(folder: Path, **options):
    """Both splits of `write`."""
    return open_splits(Data(kind="vectors", source=str(write(folder, **options))))
