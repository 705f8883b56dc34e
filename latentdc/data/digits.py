"""scikit-learn's handwritten digits, real images that need no download.

1 797 scans of 8x8 pixels with 17 grey levels (UCI ML hand-written digits, test part). The split
into 1 437 training and 360 test images, stratified by class, is part of the data set's definition.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from latentdc.data.classes import choose_classes
from latentdc.data.dataset import Dataset
from latentdc.data.decode import fit, hash_pixels
from latentdc.errors import InputError
from latentdc.recipe import Data

_TEST = 360


def open_digits(data: Data, split: Literal["train", "test"]) -> Dataset:
    """One split as RGB levels, enlarged to `data.resolution` like every other image."""
    if data.train != "train" or data.test not in (None, "test"):
        raise InputError(
            f"digits has the splits train and test, got data.train={data.train} and "
            f"data.test={data.test}; leave both out."
        )
    digits = load_digits()
    rows = split_rows(digits.target)[split]
    names = [str(name) for name in digits.target_names]
    labels, kept, some = choose_classes(torch.as_tensor(digits.target[rows]), names, data, "digits")
    rows = rows[some.numpy()]
    originals = _rgb(digits.images[rows])
    images = np.stack([fit(Image.fromarray(pixels), data.resolution) for pixels in originals])
    return Dataset(
        images=torch.from_numpy(images),
        labels=labels,
        class_names=kept,
        hashes=torch.tensor([hash_pixels(pixels) for pixels in originals]),
        name=f"digits {split}",
    )


def split_rows(target: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Ascending rows of the two splits."""
    train, test = train_test_split(
        np.arange(len(target)), test_size=_TEST, random_state=0, stratify=target
    )
    return {"train": np.sort(train), "test": np.sort(test)}


def _rgb(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(N, 8, 8) levels 0..16 -> (N, 8, 8, 3) levels 0..255."""
    grey = np.rint(levels * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
