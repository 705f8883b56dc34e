"""RDED's selection."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.pca.crops import realism, realistic_crops
from tests.evaluate.toys import stripes

TRAIN = stripes(60, resolution=16)
MEAN = (0.5, 0.4, 0.3)


class Mean(nn.Module):
    """Logits that say how bright each channel of the whole canvas is."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


def crops(**changes):
    settings = {"count": 6, "cell": 8, "pool": 10, "crops": 4, "scale": (0.08, 1.0)}
    settings |= {"mean": MEAN, "seed": 0, "device": torch.device("cpu"), **changes}
    return realistic_crops(TRAIN, 1, Mean(), **settings)


def test_realism_is_the_cross_entropy_of_a_crop_amid_the_mean_colour():
    cut = TRAIN.images[:5, :, :6, :6]
    loss = realism(Mean(), cut, 2, size=16, mean=MEAN, device=torch.device("cpu"))
    for crop, value in zip(cut, loss, strict=True):
        inside = (from_uint8(crop).sum(dim=(1, 2)), 6 * 6)
        around = (torch.tensor(MEAN) * 2 - 1) * (16 * 16 - inside[1])
        logits = (inside[0] + around) / 256
        torch.testing.assert_close(value, -F.log_softmax(logits, dim=0)[2], atol=1e-5, rtol=0)


def test_each_image_gives_its_best_crop_and_the_class_its_best_images():
    few, many = crops(crops=1), crops(crops=16)
    for found in (few, many):
        assert found.images.shape == (6, 3, 8, 8) and len(set(found.rows.tolist())) == 6
        assert (TRAIN.labels[found.rows] == 1).all()
        assert torch.equal(found.losses, found.losses.sort().values)
        device = torch.device("cpu")
        again = realism(Mean(), found.images, 1, size=16, mean=MEAN, device=device)
        torch.testing.assert_close(found.losses, again)
    every = crops(crops=16, count=10)
    assert torch.equal(every.losses[:6], many.losses)
    assert many.losses.mean() < few.losses.mean()


def test_the_pool_is_a_part_of_the_class_or_all_of_a_small_one():
    assert set(crops(pool=7).rows.tolist()) < set(TRAIN.members(1).tolist())
    assert set(crops(pool=300, count=20).rows.tolist()) == set(TRAIN.members(1).tolist())
    with pytest.raises(InputError, match=r"its pool has 5; raise rded\.pool"):
        crops(pool=5)


def test_crops_follow_from_the_seed():
    assert torch.equal(crops().images, crops().images)
    assert not torch.equal(crops().images, crops(seed=1).images)
