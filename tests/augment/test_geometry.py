import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from latentdc.augment import geometry
from latentdc.draws import generator

IMAGES = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


def boxes(count=4000, size=32, scale=(0.08, 1.0), cells=None, seed=0):
    return geometry.draw_boxes(count, size, scale, cells, generator(seed))


def test_each_image_is_cropped_as_torchvision_crops_it_alone():
    own = torch.tensor(
        [[0, 0, 12, 12], [2, 3, 5, 7], [7, 0, 5, 12], [11, 11, 1, 1], [0, 4, 12, 3]]
    ).float()
    seen = geometry.crop_resize(IMAGES, own)
    for image, box, view in zip(IMAGES, own.long().tolist(), seen, strict=True):
        expected = tv.resized_crop(image[None], *box, [12, 12], antialias=True)[0]
        torch.testing.assert_close(view, expected, atol=2e-5, rtol=0)


def test_boxes_have_the_area_and_aspect_of_the_range_and_lie_anywhere():
    top, left, height, width = boxes().unbind(1)
    assert ((top >= 0) & (left >= 0) & (top + height <= 32) & (left + width <= 32)).all()
    for part in (top, left, height, width):
        assert torch.equal(part, part.round())
    area, aspect = height * width / 32**2, width / height
    assert 0.05 < area.min() < 0.1 and area.max() == 1
    assert 0.6 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.6
    assert area.mean() == pytest.approx(0.5, abs=0.05)  # boxes that do not fit are drawn again
    assert (top == 0).float().mean() > 0.05 and top.max() > 20


def test_a_range_of_the_whole_area_keeps_the_image():
    whole = boxes(scale=(1.0, 1.0))
    torch.testing.assert_close(whole, torch.tensor([0.0, 0, 32, 32]).expand(4000, 4))


@pytest.mark.parametrize(("size", "cells"), [(32, 2), (32, 4), (33, 2)])
def test_crops_stay_inside_one_cell_and_visit_all(size, cells):
    top, left, height, width = boxes(size=size, cells=cells).unbind(1)
    edge = [index * size // cells for index in range(cells)]
    row = torch.bucketize(top.contiguous(), torch.tensor(edge), right=True) - 1
    column = torch.bucketize(left.contiguous(), torch.tensor(edge), right=True) - 1
    assert (top + height <= torch.tensor(edge)[row] + size // cells).all()
    assert (left + width <= torch.tensor(edge)[column] + size // cells).all()
    visits = torch.bincount(row * cells + column, minlength=cells**2) / 4000
    torch.testing.assert_close(visits, torch.full_like(visits, 1 / cells**2), atol=0.03, rtol=0)


def test_a_shift_is_a_crop_of_the_image_padded_with_black():
    offsets = torch.tensor([[0, 0], [-3, 2], [4, 4], [-4, 0], [1, -1]])
    padded = torch.nn.functional.pad(IMAGES, (4, 4, 4, 4), value=-1)
    for view, image, (dy, dx) in zip(
        geometry.shift(IMAGES, offsets), padded, offsets.tolist(), strict=True
    ):
        assert torch.equal(view, image[:, 4 + dy : 16 + dy, 4 + dx : 16 + dx])


def test_strips_are_reordered_and_no_pixel_is_lost():
    images = torch.arange(13 * 13.0).view(13, 13).expand(2, 3, 13, 13)
    orders = torch.tensor([[[0, 1, 2], [2, 0, 1]], [[2, 1, 0], [0, 1, 2]]])
    first, second = geometry.shuffle_strips(images, orders)
    image = images[0]
    columns = [image[:, :, 8:12], image[:, :, :4], image[:, :, 4:8], image[:, :, 12:]]
    assert torch.equal(first, torch.cat(columns, dim=2))
    rows = [image[:, 8:12], image[:, 4:8], image[:, :4], image[:, 12:]]
    assert torch.equal(second, torch.cat(rows, dim=1))


def test_the_mirror_turns_those_that_are_drawn():
    flips = torch.tensor([True, False, True, False, False])
    seen = geometry.mirror(IMAGES, flips)
    assert torch.equal(seen[0], IMAGES[0].flip(2)) and torch.equal(seen[1], IMAGES[1])


def test_the_central_part_is_resize_then_centre_crop():
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    expected = tv.center_crop(tv.resize(images, [32, 32], antialias=True), [28, 28])
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # beyond the part is not seen
    ours = geometry.central_part(images, 0.875)
    torch.testing.assert_close(ours[inside], expected[inside], atol=1e-4, rtol=0)
    assert geometry.central_part(images, 1.0) is images


def test_a_reflecting_shift_is_torchvisions_padding():
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).reshape(2, 3, 5, 5)
    padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    for offset in [(-4, 4), (0, 0), (3, -1), (4, 4)]:
        top, left = 4 + offset[0], 4 + offset[1]
        wanted = padded[:, :, top : top + 5, left : left + 5]
        found = geometry.shift(images, torch.tensor([offset, offset]), reflect=True)
        assert torch.equal(found, wanted)
