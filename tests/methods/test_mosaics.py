"""Mosaics: which image goes where, and that it goes there whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdc.augment.geometry import draw_boxes
from latentdc.data.open import open_splits, whole_pictures
from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.methods.mosaics import GREY, arrange, decoded_pictures, mosaic, mosaics, shaped
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Data, Mosaic

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def test_stride_gives_each_mosaic_ranks_that_lie_ipc_apart():
    ranked = torch.arange(100, 112)
    strided = arrange(ranked, 2, "stride", generator(0))
    assert strided.tolist() == [[100 + i, 103 + i, 106 + i, 109 + i] for i in range(3)]
    assert arrange(ranked, 2, "rank", generator(0))[0].tolist() == [100, 101, 102, 103]
    shuffled = arrange(ranked, 2, "random", generator(0))
    assert shuffled.shape == (3, 4) and shuffled.flatten().tolist() != ranked.tolist()
    assert shuffled.flatten().sort().values.tolist() == ranked.tolist()


@pytest.mark.parametrize(("size", "grid"), [(32, 2), (33, 2), (32, 3)])
def test_cells_are_where_the_crops_of_the_augmentation_lie(size, grid):
    pictures = [Image.new("RGB", (50, 40), (n, 255 - n, 0)) for n in range(1, grid**2 + 1)]
    (image,) = mosaics(pictures, grid, size, "squash")
    boxes = draw_boxes(500, size, (0.08, 1.0), grid, generator(0)).long()
    seen = set()
    for top, left, height, width in boxes.tolist():
        colours = image[0, top : top + height, left : left + width].unique().tolist()
        assert len(colours) == 1
        seen |= set(colours)
    assert seen == set(range(1, grid**2 + 1))


def test_a_whole_image_is_squashed_padded_or_only_its_centre_kept():
    wide = Image.new("RGB", (80, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (70, 0, 80, 20))  # an end that only crops lose
    squashed, padded, centre = (shaped(wide, (16, 16), fit) for fit in ("squash", "pad", "center"))
    assert squashed.getpixel((15, 8)) == padded.getpixel((15, 8)) == (0, 0, 255)
    assert padded.getpixel((8, 1)) == GREY and squashed.getpixel((8, 1)) == (255, 0, 0)
    assert centre.getcolors() == [(256, (255, 0, 0))]


def test_pictures_fill_rows_of_the_grid_first():
    pictures = [Image.new("RGB", (8, 8), colour) for colour in COLOURS * 2]
    made = mosaics(pictures, 2, 8, "squash")
    assert made.shape == (2, 3, 8, 8) and made.dtype == torch.uint8
    corners = [tuple(made[1, :, y, x].tolist()) for y, x in ((0, 0), (0, 7), (7, 0), (7, 7))]
    assert corners == COLOURS


@pytest.fixture
def data(tmp_path):
    for split in ("train", "test"):
        for shade, name in ((40, "cat"), (200, "dog")):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            wide = Image.new("RGB", (60, 20), (shade, 0, 0))
            wide.paste((0, 0, 255), (50, 0, 60, 20))
            wide.save(folder / "a.png")
    return Data(source=str(tmp_path / "set"), resolution=8, cache=str(tmp_path / "cache"))


def test_a_whole_picture_has_the_ends_that_decoding_cut_off(data):
    train, _ = open_splits(data)
    whole = whole_pictures(data, train)
    assert whole(1).size == (60, 20) and whole(1).getpixel((55, 10)) == (0, 0, 255)
    assert whole(1).getpixel((0, 0)) == (200, 0, 0) and whole(0).getpixel((0, 0)) == (40, 0, 0)
    cut = decoded_pictures(train)(1)
    assert cut.size == (8, 8) and cut.getpixel((7, 4))[2] == 0


def test_the_centre_of_a_picture_is_the_image_that_was_decoded(data):
    source = np.random.default_rng(0)
    for folder in Path(data.source).glob("train/*"):
        for name in "abcd":
            levels = source.integers(0, 256, (21, 60, 3), np.uint8)
            Image.fromarray(levels).save(folder / f"{name}.png")
    train, _ = open_splits(data)
    core, plain = Coreset.whole(train, "easy"), Context(ipc=1, train=train)
    whole = replace(plain, picture=whole_pictures(data, train))
    centre, squashed = (Mosaic(grid=2, fit=fit) for fit in ("center", "squash"))
    made = mosaic(core, None, centre, whole).images
    assert made.equal(mosaic(core, None, centre, plain).images)
    assert not made.equal(mosaic(core, None, squashed, whole).images)


def test_rows_that_are_no_files_are_refused(data):
    train, _ = open_splits(data)
    with pytest.raises(InputError, match=r"1 image that cannot be decoded.*mosaic\.fit=center"):
        whole_pictures(data, train.select(train.labels.argsort()[:1]))
