"""RDED's selection."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.methods.context import Context
from latentdc.methods.rded import (
    amid,
    check_crops,
    enlarged,
    rded,
    rded_images,
    realism,
    realistic_crops,
)
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Rded
from tests.evaluate.toys import stripes

TRAIN = stripes(60, resolution=16)
MEAN = (0.5, 0.4, 0.3)


class Mean(nn.Module):
    """Logits that say how bright each channel of the whole canvas is."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


def crops(ipc=6, seed=0, **changes):
    """Of single pictures, at full size; as cells of 8 px with `grid=2`."""
    settings = Rded(**{"grid": 1, "pool": 10, "crops": 4, **changes})
    context = Context(ipc=ipc, seed=seed, mean=MEAN)
    return realistic_crops(TRAIN, 1, Mean(), settings, context)


def test_realism_is_the_cross_entropy_of_a_crop_amid_the_mean_colour():
    cut = TRAIN.images[:5, :, :6, :6]
    loss, right = realism(Mean(), amid(cut, MEAN, 16), 2)
    for crop, value, known in zip(cut, loss, right, strict=True):
        inside = (from_uint8(crop).sum(dim=(1, 2)), 6 * 6)
        around = (torch.tensor(MEAN) * 2 - 1) * (16 * 16 - inside[1])
        logits = (inside[0] + around) / 256
        torch.testing.assert_close(value, -F.log_softmax(logits, dim=0)[2], atol=1e-5, rtol=0)
        assert bool(known) == (logits.argmax() == 2)


def test_a_teacher_without_canvas_sees_the_crop_alone_as_large_as_an_image():
    flat = torch.tensor([10, 200, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    shown = enlarged(flat, 16)
    assert shown.shape == (1, 3, 16, 16)
    torch.testing.assert_close(shown, from_uint8(flat)[..., :1, :1].expand(1, 3, 16, 16))
    best = crops(canvas=False, crops=16, grid=2, ipc=2)
    again, _ = realism(Mean(), enlarged(best.images, 16), 1)
    torch.testing.assert_close(best.losses, again)
    assert not torch.equal(best.losses, crops(crops=16, grid=2, ipc=2).losses)


def test_each_image_gives_its_best_crop_and_the_class_its_best_images():
    few, many = crops(crops=1), crops(crops=16)
    for found in (few, many):
        assert found.images.shape == (6, 3, 16, 16) and len(set(found.rows.tolist())) == 6
        assert (TRAIN.labels[found.rows] == 1).all()
        assert torch.equal(found.losses, found.losses.sort().values)
        again, _ = realism(Mean(), amid(found.images, MEAN, 16), 1)
        torch.testing.assert_close(found.losses, again)
    every = crops(crops=16, ipc=10)
    assert torch.equal(every.losses[:6], many.losses)
    assert many.losses.mean() < few.losses.mean()


def test_a_crop_has_its_share_of_the_area_and_not_of_the_side():
    ramp = (16 * torch.arange(16)).to(torch.uint8).expand(len(TRAIN), 3, 16, 16).contiguous()
    context = Context(ipc=2, mean=MEAN)
    settings = Rded(grid=1, pool=4, crops=3, scale=(0.25, 0.25))
    images = realistic_crops(replace(TRAIN, images=ramp), 1, Mean(), settings, context).images
    spans = images[..., -1].int() - images[..., 0].int()
    assert (spans == 7 * 16).all()  # of 8 pixels


def test_crops_of_each_image_lie_anywhere_on_it():
    data = stripes(600, resolution=16)
    ramp = (16 * torch.arange(16)).to(torch.uint8).expand(len(data), 3, 16, 16).contiguous()
    settings = Rded(grid=1, pool=200, crops=1, scale=(0.25, 0.25))
    context = Context(ipc=200, mean=MEAN)
    for turned in (ramp, ramp.mT.contiguous()):
        cut = realistic_crops(replace(data, images=turned), 1, Mean(), settings, context).images
        starts = cut[:, 0, 0, 0] // 16  # pixels are 0 to 8 from the first that is left out
        assert len(cut) == 200 and starts.unique().numel() == 9


def test_the_pool_is_a_part_of_the_class_or_all_of_a_small_one():
    assert set(crops(pool=7).rows.tolist()) < set(TRAIN.members(1).tolist())
    assert set(crops(pool=7).rows.tolist()) != set(crops(pool=7, seed=1).rows.tolist())
    assert set(crops(pool=300, ipc=20).rows.tolist()) == set(TRAIN.members(1).tolist())
    with pytest.raises(InputError, match=r"its pool has 5; raise rded\.pool"):
        counts = dict.fromkeys(TRAIN.class_names, 20)
        check_crops(counts, None, Rded(grid=1, pool=5), Context(ipc=6))


def test_crops_follow_from_the_seed():
    assert torch.equal(crops().images, crops().images)
    assert not torch.equal(crops().images, crops(seed=1).images)


class Blind(nn.Module):
    """Names the last class whatever it sees."""

    def forward(self, images):
        return torch.arange(3.0).expand(len(images), 3)


@pytest.mark.parametrize(("grid", "size"), [(1, 16), (2, 8)])
def test_rded_images_hold_the_crops_and_say_what_the_classifier_recognises(grid, size):
    settings, context = Rded(grid=grid, pool=10, crops=2), Context(ipc=2, mean=MEAN)
    images, recognised = rded_images(TRAIN, Blind(), settings, context)
    assert images.shape == (6, 3, 16, 16) and recognised == pytest.approx(1 / 3)
    flat = realistic_crops(TRAIN, 0, Blind(), settings, context).images
    assert flat.shape == (2 * grid**2, 3, size, size)
    assert torch.equal(images[0, :, :size, :size], flat[0])
    assert torch.equal(images[1, :, :size, :size], flat[1])  # dealt out in strides


@pytest.mark.parametrize("accuracy", [0.9, 0.34])
def test_a_classifier_that_recognises_nothing_is_said(capsys, accuracy):
    class Knows(nn.Module):
        def forward(self, images):
            self.known = getattr(self, "known", -1) + 1  # the class whose turn it is
            named = self.known if accuracy > 0.5 else 2
            return F.one_hot(torch.full((len(images),), named), 3).float()

    context = Context(ipc=2, train=TRAIN, classifier=lambda: (Knows(), accuracy))
    made = rded(Coreset.whole(TRAIN, "easy"), None, Rded(pool=10, crops=2), context)
    assert made.grid == 2 and made.provenance["teacher_accuracy"] == accuracy
    told = capsys.readouterr().err
    assert ("names 33.3% of RDED's crops rightly (chance 33.3%)" in told) == (accuracy < 0.5)
