"""Encoded images of others, decoded as they are: one size for all, RGB."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from latentdc.data.decode import UNREADABLE, open_picture, to_rgb
from latentdc.errors import InputError


def decode_all(encoded: Iterable[tuple[str, bytes]], places: Sequence[int], source: str) -> Tensor:
    """(N, 3, H, W) uint8 of named encoded images, of which memory holds one copy.

    Args:
        encoded: N images.
        places: where each belongs among the N.
        source: named in messages.

    Raises:
        InputError: one that cannot be decoded, or images of different sizes.
    """
    levels = torch.empty(0)
    first = ""
    for place, (name, content) in zip(places, encoded, strict=True):
        try:
            with open_picture(content) as image:
                picture = to_rgb(image)
        except UNREADABLE as error:
            raise InputError(f"cannot decode {name}: {error}.") from error
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        if not first:
            first, levels = name, shown.new_empty((len(places), *shown.shape))
        if shown.shape != levels.shape[1:]:
            (h, w), (height, width) = levels.shape[2:], shown.shape[1:]
            raise InputError(
                f"{source} has images of different sizes: {w}x{h} px in {first}, {width}x{height} "
                f"px in {name}; a set has one size."
            )
        levels[place] = shown
    return levels
