import torch
from torch import nn

from latentdc.objectives.distribution import distribution_matching


def images(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def test_distribution_matching_follows_the_paper():
    real, synthetic = images(8, 3, 4, 4), images(2, 3, 4, 4, seed=1)
    loss = distribution_matching(nn.Flatten(), real, synthetic)
    torch.testing.assert_close(loss, (real.sum(0) / 8 - synthetic.sum(0) / 2).square().sum())


def test_distribution_matching_is_zero_where_the_means_coincide():
    real = images(6, 3, 4, 4)
    assert distribution_matching(nn.Flatten(), real, real.flip(0)) < 1e-24


def test_gradients_reach_the_synthetic_images_alone():
    real, synthetic = images(4, 3, 4, 4).requires_grad_(), images(2, 3, 4, 4).requires_grad_()
    distribution_matching(nn.Flatten(), real, synthetic).backward()
    assert real.grad is None and synthetic.grad.abs().sum() > 0


def test_gradients_agree_with_finite_differences():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.Tanh(), nn.Flatten())
    network.double().requires_grad_(False)
    real, synthetic = images(3, 3, 4, 4), images(2, 3, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: distribution_matching(network, real, s), (synthetic,))
