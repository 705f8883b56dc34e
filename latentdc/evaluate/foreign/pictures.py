"""Encoded images of others, decoded as they are: one size for all, RGB."""

from collections.abc import Iterable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdc.data.decode import UNREADABLE, to_rgb
from latentdc.errors import InputError


def decode_all(encoded: Iterable[tuple[str, bytes]], source: str) -> Tensor:
    """(N, 3, H, W) uint8 of named encoded images.

    Raises:
        InputError: one that cannot be decoded, or images of different sizes.
    """
    levels: list[Tensor] = []
    first = ""
    for name, content in encoded:
        try:
            with Image.open(BytesIO(content)) as image:
                picture = to_rgb(image)
        except UNREADABLE as error:
            raise InputError(f"cannot decode {name}: {error}.") from error
        levels.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        first = first or name
        if levels[-1].shape != levels[0].shape:
            (h, w), (height, width) = levels[0].shape[1:], levels[-1].shape[1:]
            raise InputError(
                f"{source} has images of different sizes: {w}x{h} px in {first}, {width}x{height} "
                f"px in {name}; a set has one size."
            )
    return torch.stack(levels)
