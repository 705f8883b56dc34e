"""Encoded images of others, decoded as they are: one size for all, RGB."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdc.data.decode import FORMATS, UNREADABLE, open_picture, to_rgb
from latentdc.errors import InputError

LARGEST_FILE = 2**28  # bytes


def decode_all(
    encoded: Iterable[tuple[str, bytes]],
    places: Sequence[int],
    source: str,
    size: int | None = None,
) -> Tensor:
    """(N, 3, H, W) uint8 of named encoded images, of which memory holds one copy.

    Nothing larger than the first image is decoded, nor that one where it has not the given size.

    Args:
        encoded: N images.
        places: where each belongs among the N.
        source: named in messages.
        size: height and width in pixels, of the test set; None takes any.

    Raises:
        InputError: one that cannot be decoded, or images of different sizes.
    """
    levels = torch.empty(0)
    first = ""
    wanted = None if size is None else (size, size)
    for place, (name, content) in zip(places, encoded, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = open_picture(content)
            with image:
                if wanted is not None and image.size != wanted and image.size[::-1] != wanted:
                    raise _other_size(image.size, wanted, name, first, source)
                picture = to_rgb(image)
        except InputError:
            raise
        except UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            if "cannot identify" in reason:
                reason = f"it is none of {', '.join(FORMATS)}, or is damaged"
            raise InputError(f"cannot decode {name}: {reason}.") from error
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        if not first:
            first, wanted = name, picture.size
            levels = shown.new_empty((len(places), *shown.shape))
        if picture.size != wanted:
            raise _other_size(picture.size, wanted, name, first, source)
        levels[place] = shown
    return levels


def _other_size(
    found: tuple[int, int], wanted: tuple[int, int] | None, name: str, first: str, source: str
) -> InputError:
    """Widths and heights; `first` names the image that has the wanted one, empty for the data."""
    (w, h), (width, height) = wanted or (0, 0), found
    if first:
        return InputError(
            f"{source} has images of different sizes: {w}x{h} px in {first}, {width}x{height} px "
            f"in {name}; a set has one size."
        )
    how = f"open the data with data.resolution={width}" if width == height else "a set has one size"
    return InputError(
        f"{name} is an image of {width}x{height} px, and the test set's are {w}x{h} px; {how}."
    )
