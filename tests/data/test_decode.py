import struct
import subprocess
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from latentdc.data.decode import UNREADABLE, decode
from latentdc.io import hash_bytes
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


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits per channel: Pillow opens it, and writes none itself."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + b"\x12\x34" * 8 * channels for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def deep_tiff(planar: int) -> bytes:
    """An uncompressed RGB TIFF of 16 bits per channel; Pillow writes none of them either."""
    pixels = bytes(8 * 8 * 6)
    bits, offsets, sizes = 8, 14, 26  # where the values of three numbers lie
    data = 38
    strips = [(data, len(pixels))] if planar == 1 else [(data + i * 128, 128) for i in range(3)]
    head = struct.pack("<3H", 16, 16, 16)
    head += struct.pack("<3I", *[s for s, _ in strips] + [0] * (3 - len(strips)))
    head += struct.pack("<3I", *[n for _, n in strips] + [0] * (3 - len(strips)))
    one = len(strips) == 1
    tags = [
        *((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2)),
        (273, 4, len(strips), data if one else offsets),
        *((277, 3, 1, 3), (278, 3, 1, 8)),
        (279, 4, len(strips), len(pixels) if one else sizes),
        (284, 3, 1, planar),
    ]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", data + len(pixels)) + head + pixels + table + bytes(4)


def deep_j2k() -> bytes:
    levels = np.full((8, 8), 40000, np.uint16)
    return encoded(Image.fromarray(levels), "JPEG2000")


USUAL = ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "AVIF"]
DEEP = {
    "grey PNG": lambda: encoded(Image.fromarray(np.full((8, 8), 40000, np.uint16))),
    "grey PNG of int32": lambda: encoded(Image.fromarray(np.full((8, 8), 40000, np.int32)), "TIFF"),
    "float TIFF": lambda: encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"),
    "grey PNG by hand": lambda: deep_png(1),
    "grey PNG with alpha": lambda: deep_png(2),
    "RGB PNG": lambda: deep_png(3),
    "RGBA PNG": lambda: deep_png(4),
    "RGB TIFF": lambda: deep_tiff(1),
    "RGB TIFF in planes": lambda: deep_tiff(2),
    "RGB PPM": lambda: b"P6 8 8 65535\n" + bytes(8 * 8 * 6),
    "RGB PPM of 12 bits": lambda: b"P6 8 8 4095\n" + bytes(8 * 8 * 6),
    "grey PGM": lambda: b"P5 8 8 65535\n" + bytes(8 * 8 * 2),
    "grey JPEG 2000": deep_j2k,
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_eight_bits_are_refused_instead_of_cut(kind):
    with pytest.raises(ValueError, match=r"more than 8 bits per channel.*convert it"):
        decode(DEEP[kind](), 8)


@pytest.mark.parametrize(
    "kind", ["PNG", "BMP", "PPM", "TIFF", "GIF", "JPEG2000", "AVIF", "WEBP", "TGA"]
)
def test_eight_bits_of_every_usual_format_are_taken(kind):
    assert decode(encoded(picture(0, (32, 32)), kind), 32)[0].shape == (3, 32, 32)


def test_a_small_file_that_would_decode_for_minutes_is_refused():
    content = encoded(Image.new("L", (6000, 6000)), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    many = content[:start] + content[start:-2] * 5000 + content[-2:]
    with pytest.raises(ValueError, match="made to take long"):
        decode(many[: 5 * 2**20], 8)


def test_a_format_that_runs_another_program_is_not_opened(monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("ran a program"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n{} loop\n"
    with pytest.raises(UNREADABLE):
        decode(eps, 8)


@pytest.mark.filterwarnings("ignore")  # Pillow's own
@pytest.mark.parametrize("kind", USUAL)
def test_damaged_pictures_are_unreadable_or_decoded_and_never_anything_else(kind):
    whole, source = encoded(picture(0, (16, 16)), kind), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole[: source.integers(1, len(whole) + 1)])
        for place in source.integers(0, len(damaged), source.integers(1, 9)):
            damaged[place] = source.integers(256)
        with suppress(*UNREADABLE):
            assert decode(bytes(damaged), 8)[0].shape == (3, 8, 8)


def png(rows: list[bytes], size: int, interlaced: bool = False) -> bytes:
    """A sound PNG of a grey square, whose data hold just these rows of pixels."""
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), (b"IDAT", data[:9]), (b"IDAT", data[9:]), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_that_ends_before_its_last_row_is_no_image_with_a_black_end(size, interlaced):
    levels = np.arange(1, size * size + 1, dtype=np.uint8).reshape(size, size)
    slices = [levels]
    if interlaced:  # what https://www.w3.org/TR/png/#8Interlace calls passes
        slices = [levels[::8, ::8], levels[::8, 4::8], levels[4::8, ::4], levels[::4, 2::4]]
        slices += [levels[2::4, ::2], levels[::2, 1::2], levels[1::2]]
    rows = [row.tobytes() for part in slices for row in part if row.size]
    image, _ = decode(png(rows, size, interlaced), size)
    assert (image == levels).all()
    with pytest.raises(OSError, match=r"missing|truncated"):
        decode(png(rows[:-1], size, interlaced), size)


def test_a_note_may_stand_before_the_size_of_a_png():
    whole = png([bytes([0, 0])] * 2, 2)
    note = b"tEXt" + b"Title\0of it"
    first = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    assert (decode(whole[:8] + first + whole[8:], 2)[0] == 0).all()


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
    assert decode(content, 8)[1] == hash_bytes(content)


def test_a_photo_with_a_film_behind_it_is_a_photo_and_one_of_many_scans_is_not():
    photo = encoded(picture(0), "JPEG")
    film = b"\xff\xda\x00\x08" * 1000
    note = b"\xff\xe1" + struct.pack(">H", len(film) + 2) + film  # of a camera's maker
    levels, _ = decode(photo, 8)
    assert np.array_equal(decode(photo + film, 8)[0], levels)
    assert np.array_equal(decode(photo[:2] + note + photo[2:], 8)[0], levels)
    scan = photo.index(b"\xff\xda")
    slow = photo[:-2] + photo[scan:-2] * 100 + photo[-2:]
    with pytest.raises(ValueError, match="a JPEG of more than 100 scans, made to take long"):
        decode(slow, 8)
