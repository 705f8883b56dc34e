"""From the bytes of an image file to RGB levels of the wanted size.

Greyscale and palette images become RGB; transparent pixels are composited over white. EXIF
orientation is applied. An image of another size is cut to its central square and resized with
antialiased bilinear interpolation (what torchvision's Resize and CenterCrop do).
"""

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentdc.data.hashing import hash_file, hash_pixels

# What Pillow raises on damaged or hostile files.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
_LOSSLESS = {"PNG", "BMP", "PPM", "TIFF", "GIF"}
_DEEP_MODES = ("I", "F")  # and I;16 and its kin: more than 8 bits per channel


def decode(content: bytes, resolution: int) -> tuple[NDArray[np.uint8], int]:
    """(3, resolution, resolution) levels and the content hash of one encoded image.

    Raises:
        OSError, SyntaxError, ValueError, ...: one of `UNREADABLE`, where it cannot be decoded.
    """
    with Image.open(BytesIO(content)) as image:
        lossless = image.format in _LOSSLESS
        rgb = to_rgb(image)
    hash_ = hash_pixels(np.asarray(rgb)) if lossless else hash_file(content)
    return fit(rgb, resolution), hash_


def to_rgb(image: Image.Image) -> Image.Image:
    """An upright RGB copy of any image with 8 bits per channel."""
    if image.mode.startswith(_DEEP_MODES):
        raise ValueError(f"has mode {image.mode}; images need 8 bits per channel")
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def fit(rgb: Image.Image, resolution: int) -> NDArray[np.uint8]:
    """Central square of an RGB image as (3, resolution, resolution) levels."""
    size = (resolution, resolution)
    if rgb.size != size:
        rgb = ImageOps.fit(rgb, size, method=Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
