"""From the bytes of an image file to RGB levels of the wanted size.

Greyscale, palette and CMYK images become RGB; transparent pixels are composited over white. EXIF
orientation is applied. An image of another size is cut to its central square and resized with
antialiased bilinear interpolation (what torchvision's Resize and CenterCrop do). Images with more
than 8 bits per channel are refused: Pillow would cut some of them to 8 without a word.

Each image gets a 64-bit content hash, the same in every copy of a data set. Lossless images are
hashed by their decoded RGB pixels at the original size, so that a re-compressed PNG or another
container (parquet, folder, array) keeps its hash. Decoders of lossy formats differ by a level here
and there, so JPEG and the like are hashed by the bytes of the file. Imports no torch.
"""

import re
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentdc.io import hash_bytes

# What Pillow raises on damaged or hostile files.
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
# EPS runs a program, Ghostscript; the others are no pictures that Pillow decodes everywhere.
_NO_PICTURES = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
_LOSSLESS = {"PNG", "BMP", "PPM", "TIFF", "GIF"}
_DEEP_MODES = ("I", "F")  # and I;16 and its kin: more than 8 bits per channel
_MOST_SCANS = 100  # of a progressive JPEG; common ones have 10, hostile ones 10,000
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])", re.DOTALL)  # of JPEG, with a length
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the kind of color
_PNG_PASSES = (  # of an interlaced one: the first column and row, and the steps to the next ones
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_BY_SUFFIX = Image.registered_extensions()  # loads Pillow's formats
FORMATS = tuple(name for name in Image.OPEN if name not in _NO_PICTURES)
SUFFIXES = frozenset(
    suffix for suffix, name in _BY_SUFFIX.items() if name in FORMATS or name == "MPO"
)


def decode(content: bytes, resolution: int) -> tuple[NDArray[np.uint8], int]:
    """(3, resolution, resolution) levels and the content hash of one encoded image.

    Raises:
        OSError, SyntaxError, ValueError, ...: one of `UNREADABLE`, where it cannot be decoded.
    """
    with open_picture(content) as image:
        lossless = image.format in _LOSSLESS
        rgb = to_rgb(image)
    hash_ = hash_array(np.asarray(rgb)) if lossless else hash_bytes(content)
    return fit_square(rgb, resolution), hash_


def hash_array(values: NDArray[Any]) -> int:
    """Signed 64-bit hash of (H, W, 3) levels or of a vector; depends on the shape too."""
    return hash_bytes(repr(values.shape).encode() + values.tobytes())


def open_picture(content: bytes) -> Image.Image:
    """An encoded image, a PNG decoded; only formats whose decoder runs no other program.

    Raises:
        OSError, SyntaxError, ValueError, ...: one of `UNREADABLE`, where it is no such image.
    """
    if why := pointer(content):
        raise OSError(why)
    image = Image.open(BytesIO(content), formats=FORMATS)
    if image.format in ("JPEG", "MPO") and _scans(content) > _MOST_SCANS:
        raise ValueError(f"it is a JPEG of more than {_MOST_SCANS} scans, made to take long")
    if _is_deep(image, content):
        raise ValueError(
            f"it has more than 8 bits per channel (mode {image.mode}); images need 8: convert it, "
            "for example with `magick mogrify -depth 8`"
        )
    if image.format == "PNG" and _ends_black(image, content) and _lacks_rows(content):
        raise OSError("it is a PNG whose last rows are missing")  # which Pillow leaves black
    return image


def ppm(levels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) levels as an encoded image, which is these bytes behind a few of a header."""
    return b"P6 %d %d 255\n" % (levels.shape[1], levels.shape[0]) + levels.tobytes()


def pointer(content: bytes) -> str | None:
    """What to do where a file holds a pointer of Git LFS or git-annex in place of its content."""
    if content.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run `git lfs pull` in its repository"
    if content.startswith(b"/annex/objects/"):
        return "it is a git-annex pointer; run `git annex get .` in its repository"
    return None


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


def in_mode(content: bytes, mode: str) -> bytes:
    """An encoded image in a mode of Pillow, such as grey (L), where it has another one."""
    with open_picture(content) as image:
        if image.mode == mode:
            return content
        if mode.startswith(_DEEP_MODES):  # of the 8 bits that the file has
            mode = "L"
        upright = ImageOps.exif_transpose(image)
        flat = to_rgb(upright) if upright.has_transparency_data else upright
        return ppm(np.asarray(to_rgb(flat.convert(mode))))


def fit_square(rgb: Image.Image, resolution: int) -> NDArray[np.uint8]:
    """Central square of an RGB image as (3, resolution, resolution) levels."""
    size = (resolution, resolution)
    if rgb.size != size:
        rgb = ImageOps.fit(rgb, size, method=Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def _scans(jpeg: bytes) -> int:
    """How often a JPEG paints its picture, as far as `_MOST_SCANS` + 1.

    What lies inside of its notes or after its end, such as the film of a motion photo, is no scan.
    """
    scans, place = 0, 2
    while scans <= _MOST_SCANS and (marker := _MARKER.search(jpeg, place)) is not None:
        code, length = marker[1], jpeg[marker.end() : marker.end() + 2]
        if code == b"\xd9":  # end of image
            break
        scans += code == b"\xda"
        place = marker.end() + int.from_bytes(length)
    return scans


def _ends_black(image: Image.Image, png: bytes) -> bool:
    """Whether the last row of a PNG is black or clear, or need not be what its data end with."""
    if png[12:16] != b"IHDR":  # a note before it, which Pillow reads
        return False
    interlaced = png[28] != 0
    last = (0, image.height - 1, image.width, image.height)
    return interlaced or image.crop(last).getbbox() is None


def _lacks_rows(png: bytes) -> bool:
    """Whether the data of a PNG end, as if whole, before its last row; unpacks them once more."""
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, 16)
    bits = depth * _PNG_CHANNELS[color]
    missing = sum(
        rows * (1 + -(-columns * bits // 8))  # a byte that names the filter, before each row
        for x, y, right, down in (_PNG_PASSES if interlaced else ((0, 0, 1, 1),))
        if (rows := -(-(height - y) // down)) > 0 and (columns := -(-(width - x) // right)) > 0
    )
    unpacker, place = zlib.decompressobj(), 8
    with suppress(zlib.error):  # which Pillow tells, as where it is cut off
        while missing > 0 and not unpacker.eof and place + 8 <= len(png):
            size, kind = struct.unpack_from(">I4s", png, place)
            packed = png[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
            while packed and missing > 0 and not unpacker.eof:
                missing -= len(unpacker.decompress(packed, 2**16))
                packed = unpacker.unconsumed_tail
            place += size + 12
    return missing > 0 and unpacker.eof


def _is_deep(image: Any, content: bytes) -> bool:
    """Whether a channel has more than 8 bits, also where Pillow's mode says 8."""
    if image.mode.startswith(_DEEP_MODES):
        return True
    if image.format == "JPEG2000":  # the first component's depth, in the codestream's SIZ marker
        start = content.find(b"\xff\x4f\xff\x51")
        return start >= 0 and (content[start + 42] & 0x7F) + 1 > 8
    if image.format == "AVIF":  # the flag high_bitdepth of the box av1C
        start = content.find(b"av1C")
        return start >= 0 and bool(content[start + 6] & 0x40)
    arguments = [word for tile in image.tile for word in _flat(tile[3])]
    if image.format == "TIFF" and max(image.tag_v2.get(258, (8,))) > 8:  # BitsPerSample
        return True
    if image.format == "PPM":
        return any(isinstance(word, int) and word > 255 for word in arguments)
    return any(
        isinstance(word, str) and re.search(r";1\d[LBNRS]+$", word) is not None
        for word in arguments
    )


def _flat(arguments: object) -> list[object]:
    if isinstance(arguments, tuple | list):
        return [word for part in arguments for word in _flat(part)]
    return [arguments]
