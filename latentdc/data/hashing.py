"""A 64-bit content hash per sample: the same image has the same hash in every copy of a data set.

Lossless images are hashed by their decoded RGB pixels at the original size, so that a re-compressed
PNG or another container (parquet, folder, array) keeps its hash. Decoders of lossy formats differ
by a level here and there, so JPEG and the like are hashed by the bytes of the file.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def hash_pixels(pixels: NDArray[np.uint8]) -> int:
    """Signed 64-bit hash of (H, W, 3) levels; depends on the shape too."""
    return _hash(repr(pixels.shape).encode() + pixels.tobytes())


def hash_file(content: bytes) -> int:
    """Signed 64-bit hash of an encoded image."""
    return _hash(content)


def hash_vector(values: NDArray[np.float32]) -> int:
    """Signed 64-bit hash of a feature vector (D,); float16 ones are hashed as float32."""
    return _hash(repr(values.shape).encode() + values.tobytes())


def _hash(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)


def hash_samples(hashes: "Tensor", labels: "Tensor", class_names: Sequence[str]) -> str:
    """16 hex digits of a set of labelled samples, whatever their order; classes have an order.

    Args:
        hashes: (N,) int64 content hash of each sample.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
    """
    samples = sorted(zip(hashes.tolist(), labels.tolist(), strict=True))
    return blake2b(repr((tuple(class_names), samples)).encode(), digest_size=8).hexdigest()
