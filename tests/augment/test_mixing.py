import pytest
import torch
from torch.nn import functional as F

from latentdc.augment import mixing
from latentdc.augment.views import draw_views
from latentdc.draws import generator
from latentdc.recipe.labels import Views

LABELS, PARTNERS = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 2])
KEPT = torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0, 0.9])


def test_a_cut_leaves_the_share_that_its_target_says():
    shares = mixing.draw_shares(500, 1.0, seed=0, epoch=3)
    boxes, kept = mixing.draw_cuts(shares, 16, generator(0))
    mixed = mixing.cutmix(torch.ones(500, 3, 16, 16), torch.zeros(500, 3, 16, 16), boxes)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), kept)
    assert (kept >= shares - 1e-6 - 0.2).all() and kept.mean() > shares.mean()  # cut off borders


def test_a_box_holds_the_partner_and_the_rest_the_image():
    own, partner = torch.zeros(1, 3, 6, 6), torch.ones(1, 3, 6, 6)
    mixed = mixing.cutmix(own, partner, torch.tensor([[1.0, 4, 2, 6]]))
    expected = torch.zeros(6, 6)
    expected[1:4, 2:6] = 1
    assert torch.equal(mixed[0, 0], expected)


def test_mixup_and_its_target_have_the_same_share():
    images = mixing.mixup(torch.ones(6, 3, 2, 2), torch.zeros(6, 3, 2, 2), KEPT)
    torch.testing.assert_close(images[:, 0, 0, 0], KEPT)


def test_mixed_targets_sum_to_one_and_are_the_formula():
    own, other = F.one_hot(LABELS, 4).float(), F.one_hot(PARTNERS, 4).float()
    mixed = mixing.mix_targets(own, other, KEPT)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(mixed, KEPT[:, None] * own + (1 - KEPT[:, None]) * other)


def test_every_image_is_a_partner_once_and_shares_follow_beta():
    drawn = draw_views(Views(mix="mixup"), count=50, size=8, seed=0, epoch=0)
    assert drawn["partner"].sort().values.tolist() == list(range(50))
    flat = mixing.draw_shares(4000, 1.0, seed=0, epoch=0)
    edges = mixing.draw_shares(4000, 0.2, seed=0, epoch=0)
    assert flat.var() == pytest.approx(1 / 12, abs=0.01)
    assert edges.var() == pytest.approx(1 / (4 * 1.4), abs=0.02)  # 1 / (4 (2 alpha + 1))
    assert torch.equal(flat, mixing.draw_shares(4000, 1.0, seed=0, epoch=0))
