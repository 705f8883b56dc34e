"""Whole images come from their files, not from the squares that were decoded."""

import pytest
from PIL import Image

from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.pca.originals import decoded_pictures, whole_pictures
from latentdc.recipe import Data


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


def test_rows_that_are_no_files_are_refused(data):
    train, _ = open_splits(data)
    with pytest.raises(InputError, match=r"1 images that cannot be decoded.*combine\.fit=center"):
        whole_pictures(data, train.select(train.labels.argsort()[:1]))
