"""scikit-learn's handwritten digits, real images that need no download.

1 797 scans of 8x8 pixels with 17 grey levels (UCI ML hand-written digits, test part). The split
into 1 437 training and 360 test images, stratified by class, is part of the data set's definition.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from latentdc.data.decode import ppm
from latentdc.data.encoded import EncodedSplit
from latentdc.data.files import Split, require_plain_splits
from latentdc.recipe import Data

_TEST = 360


def digits_split(data: Data, split: Split) -> EncodedSplit | None:
    """The images of one split, as RGB of their own size; None of another source."""
    if data.source != "digits":
        return None
    require_plain_splits(data, "digits")
    from sklearn.datasets import load_digits  # takes a second, and other data do without

    digits = load_digits()
    rows = split_rows(digits.target)[split]
    levels = np.rint(digits.images[rows] * (255 / 16)).astype(np.uint8)  # of 0 to 16
    pictures = np.repeat(levels[..., None], 3, axis=-1)
    return EncodedSplit(
        name=f"digits {split}",
        labels=torch.as_tensor(digits.target[rows]),
        class_names=tuple(str(name) for name in digits.target_names),
        fingerprint=None,
        read=lambda row: ppm(pictures[row]),
        locate=lambda row: f"digits {split}, row {row}",
    ).choose_classes(data)


def split_rows(target: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Ascending rows of the two splits."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(target)), test_size=_TEST, random_state=0, stratify=target
    )
    return {"train": np.sort(train), "test": np.sort(test)}
