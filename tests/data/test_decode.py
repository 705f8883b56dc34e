from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from latentdc.data.decode import decode
from latentdc.data.hashing import hash_file
from tests.data.conftest import picture


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_an_image_of_the_right_size_keeps_its_levels():
    levels, _ = decode(encoded(picture(0)), 8)
    assert np.array_equal(levels.transpose(1, 2, 0), np.asarray(picture(0)))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "CMYK"])
def test_every_eight_bit_mode_becomes_rgb(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    levels, _ = decode(encoded(picture(0).convert(mode), kind), 8)
    assert levels.shape == (3, 8, 8)
    if mode in ("L", "LA"):
        assert (levels == levels[:1]).all()


def test_transparent_pixels_are_composited_over_white():
    image = picture(0).convert("RGBA")
    image.putalpha(0)
    assert (decode(encoded(image), 8)[0] == 255).all()


def test_more_than_eight_bits_are_refused_instead_of_clipped():
    deep = Image.fromarray(np.full((8, 8), 40000, np.uint16))
    with pytest.raises(ValueError, match="8 bits per channel"):
        decode(encoded(deep), 8)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    levels, _ = decode(encoded(picture(0), exif=exif), 8)
    assert np.array_equal(levels.transpose(1, 2, 0), np.asarray(picture(0))[::-1, ::-1])


def test_the_central_square_is_kept():
    wide = Image.new("RGB", (24, 8), "black")
    wide.paste("white", (8, 0, 16, 8))
    assert (decode(encoded(wide), 8)[0] == 255).all()


def test_shrinking_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)))
    levels, _ = decode(encoded(stripes), 8)
    assert abs(levels.astype(int) - 127).max() <= 16


def test_lossless_copies_share_a_hash_whatever_their_container_and_size():
    image = picture(0)
    copies = [encoded(image, "PNG"), encoded(image, "PNG", compress_level=0), encoded(image, "BMP")]
    assert len({decode(copy, size)[1] for copy in copies for size in (8, 16)}) == 1


def test_one_changed_level_changes_the_hash():
    image = picture(0)
    image.putpixel((3, 3), tuple((level + 1) % 256 for level in image.getpixel((3, 3))))
    assert decode(encoded(image), 8)[1] != decode(encoded(picture(0)), 8)[1]


def test_jpeg_is_hashed_by_the_bytes_of_its_file():
    content = encoded(picture(0), "JPEG")
    assert decode(content, 8)[1] == hash_file(content)
