import pytest
import torch
from torch import nn

from latentdc.objectives import base
from latentdc.objectives.distribution import distribution_matching


def images(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.Tanh(), nn.Flatten())
    return layers.double().requires_grad_(False)


def test_distribution_matching_follows_the_paper():
    real = [images(8, 3, 4, 4), images(5, 3, 4, 4, seed=1)]
    synthetic = [images(2, 3, 4, 4, seed=2), images(3, 3, 4, 4, seed=3)]
    loss = distribution_matching(nn.Flatten(), iter(real), synthetic)
    first = (real[0].sum(0) / 8 - synthetic[0].sum(0) / 2).square().sum()
    second = (real[1].sum(0) / 5 - synthetic[1].sum(0) / 3).square().sum()
    torch.testing.assert_close(loss, first + second)


def test_distribution_matching_is_zero_where_the_means_coincide():
    real = images(6, 3, 4, 4)
    assert distribution_matching(nn.Flatten(), [real], [real.flip(0)]) < 1e-24


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_how_many_images_the_network_sees_at_once_changes_nothing(at_once, monkeypatch):
    monkeypatch.setattr(base, "PIXELS_CPU", 16 * at_once)
    real = [images(n, 3, 4, 4, seed=n) for n in (3, 1, 7)]
    synthetic = [images(2, 3, 4, 4, seed=n) for n in range(3)]
    seen = []
    features = network()
    loss = distribution_matching(lambda x: (seen.append(len(x)), features(x))[1], real, synthetic)
    expected = sum(
        (features(r).mean(0) - features(s).mean(0)).square().sum()
        for r, s in zip(real, synthetic, strict=True)
    )
    torch.testing.assert_close(loss, expected)
    assert max(seen[:-1]) <= at_once and sum(seen[:-1]) == 11 and seen[-1] == 6


def test_gradients_reach_the_synthetic_images_alone():
    real, synthetic = images(4, 3, 4, 4).requires_grad_(), images(2, 3, 4, 4).requires_grad_()
    distribution_matching(nn.Flatten(), [real], [synthetic]).backward()
    assert real.grad is None and synthetic.grad.abs().sum() > 0


def test_gradients_agree_with_finite_differences():
    real = [images(3, 3, 4, 4), images(2, 3, 4, 4, seed=5)]
    features, synthetic = network(), images(3, 3, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: distribution_matching(features, real, s.split([1, 2])), (synthetic,)
    )
