"""What a set's images cost to keep, counted beside its scores."""

import torch
from torch import Tensor

from latentdc.evaluate.labelled import LabelledImages
from latentdc.synthetic.rows import encode

MOST = 20 * 10**9  # levels; more take a quarter of an hour to encode, and are not counted
_CHUNK = 1024  # images at once, so that a memory-mapped set stays on disk


def image_bytes(labelled: LabelledImages) -> int | None:
    """Bytes of the images as PNG, of floats (images or vectors) as float32, without containers.

    None where the set is so large that counting would take long.
    """
    images = labelled.images
    values = len(images) * torch.Size(images.shape[1:]).numel()
    if images.dtype.is_floating_point:
        return 4 * values
    if values > MOST:
        return None
    rows = torch.arange(len(images)).split(_CHUNK)
    return sum(_png(images[part]) for part in rows)


def _png(levels: Tensor) -> int:
    return sum(len(encode(image)) for image in levels)
