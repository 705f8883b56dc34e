import numpy as np
import pytest
import torch
from PIL import Image

from latentdc.pictures import CAPTION, GAP, image_grid, save_grid


def flat(levels: list[int], side: int = 16) -> torch.Tensor:
    """Images of one grey level each."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, side, side)


def centre(
    picture: Image.Image, line: int, column: int, *, side: int = 64, caption: int = 0
) -> int:
    """Red of the middle of a cell."""
    x = GAP + column * (side + GAP) + side // 2
    y = GAP + caption + line * (side + GAP + caption) + side // 2
    return picture.getpixel((x, y))[0]


def test_each_class_has_its_row_in_label_order():
    images = flat([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    labels = torch.tensor([1, 0] * 6)
    picture = image_grid(images, labels)
    assert [centre(picture, 0, k) for k in range(6)] == [20, 40, 60, 80, 100, 120]
    assert [centre(picture, 1, k) for k in range(6)] == [10, 30, 50, 70, 90, 110]


def test_short_rows_share_a_line():
    picture = image_grid(flat([0, 10, 20, 30, 40]), torch.arange(5), columns=3)
    assert [centre(picture, 0, k) for k in range(3)] == [0, 10, 20]
    assert [centre(picture, 1, k) for k in range(2)] == [30, 40]
    assert picture.size == (3 * (64 + GAP) + GAP, 2 * (64 + GAP) + GAP)


def test_a_long_row_and_many_classes_are_cut():
    images, labels = flat([50] * 60), torch.arange(60) % 4
    picture = image_grid(images, labels, columns=10, max_classes=3)
    assert picture.size == (10 * (64 + GAP) + GAP, 3 * (64 + GAP) + GAP)


@pytest.mark.parametrize(("side", "shown"), [(16, 64), (28, 84), (32, 64), (96, 96), (512, 128)])
def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_shrunk(side, shown):
    picture = image_grid(flat([50], side), torch.tensor([0]))
    assert picture.size == (shown + 2 * GAP, shown + 2 * GAP)


def test_enlarged_pixels_are_not_smoothed():
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 3, 16, 16), generator=draw, dtype=torch.uint8)
    picture = np.array(image_grid(image, torch.tensor([0])))[GAP:-GAP, GAP:-GAP]
    expected = image[0].repeat_interleave(4, 1).repeat_interleave(4, 2).permute(1, 2, 0)
    assert np.array_equal(picture, expected.numpy())


def test_float_images_are_shown_clamped():
    images = torch.tensor([-5.0, 0.0, 5.0]).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    picture = image_grid(images, torch.arange(3))
    assert [centre(picture, 0, k) for k in range(3)] == [0, 128, 255]


def test_a_caption_stands_above_its_row_and_never_leaves_it():
    names = ("a name that is much too long for one image", "b")
    picture = image_grid(flat([0, 0]), torch.arange(2), names)
    assert picture.height == 64 + CAPTION + 2 * GAP
    above = np.array(picture.convert("L"))[: GAP + CAPTION]
    assert above[:, GAP : GAP + 64].min() < 100  # something is written
    assert above[:, GAP + 64 : 2 * GAP + 64].min() == 255  # and not in the gap
    assert centre(picture, 0, 1, caption=CAPTION) == 0


def test_save_grid_writes_a_whole_png_and_nothing_else(tmp_path):
    save_grid(tmp_path / "grid.png", flat([50]), torch.tensor([0]))
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
