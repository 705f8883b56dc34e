"""Trajectory matching of pixels that are whitened, as MTT's are, against pixels that are not."""

import torch
from torch.func import functional_call
from torch.nn import functional as F

from latentdc.draws import generator
from latentdc.networks.build import new_network
from latentdc.objectives.build import build_objective
from latentdc.objectives.unroll import replayed, unrolled
from latentdc.preprocessing import Normalization, fit_whitening
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import ObjectiveSettings, Trajectory
from tests.experts.toys import Wanderers

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
STD = torch.tensor([0.2, 0.2, 0.3])


def whitening():
    """Fitted on images whose pixels vary together."""
    source = generator(0)
    shade = torch.randint(30, 200, (300, 1, 1, 1), generator=source)
    fine = torch.randint(-30, 30, (300, 3, 8, 8), generator=source)
    normalization = Normalization((0.4, 0.5, 0.6), tuple(STD.tolist()))
    return fit_whitening((shade + fine).to(torch.uint8), normalization, name="toy")


def test_the_loss_is_that_of_image_space_and_its_gradient_the_one_at_the_whitened_image():
    zca = whitening()
    objective = build_objective(
        ObjectiveSettings(
            kind="mtt",
            network="convnet3@8",
            trajectory=Trajectory(syn_steps=3, lr_student=0.05, lr_lr=0.0),
        ),
        num_classes=3,
        resolution=8,
        normalization=zca,
        experts=Wanderers(),
    )
    start = torch.rand(6, 3, 8, 8, generator=generator(1)) * 2 - 1
    losses, gradients = [], []
    for space in (None, zca):
        prior = PixelPrior(8, clamp=False, whitening=space)
        z = prior.encode(start).requires_grad_()
        decoded = prior.decode(z, None, None)
        images = decoded.detach().requires_grad_()
        losses.append(objective.accumulate(0, images, LABELS, None))
        decoded.backward(images.grad)
        gradients.append(z.grad.flatten(1))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    # x = ((z + 1) / 2 - mean) / std times the matrix, so that dL/dz = (dL/dx matrix) / (2 std)
    through = gradients[1] @ zca.matrix / (2 * STD.repeat_interleave(64))
    torch.testing.assert_close(gradients[0], through, rtol=1e-2, atol=1e-3 * through.abs().max())


def test_the_gradient_at_whitened_pixels_agrees_with_finite_differences():
    zca = whitening()
    prior = PixelPrior(8, clamp=False, whitening=zca)
    network = new_network("convnet3@4", 0, num_classes=3, resolution=8, seed=0).double()
    source = generator(2)
    start = {name: weight.detach() for name, weight in network.named_parameters()}
    target = {
        name: weight + 0.1 * torch.randn(weight.shape, generator=source, dtype=torch.float64)
        for name, weight in start.items()
    }

    def inner(weights, images):
        return F.cross_entropy(functional_call(network, weights, (zca(images),)), LABELS)

    def matched(z, form=replayed):
        lr = torch.tensor(0.3, dtype=torch.float64)
        return form([inner] * 2, start, target, prior.decode(z, None, None), lr)

    z = torch.randn(6, 3, 8, 8, generator=source, dtype=torch.float64).requires_grad_()
    prior.decode(z, None, None).backward(matched(z.detach(), unrolled).images)
    for _ in range(3):
        way = torch.randn(z.shape, generator=source, dtype=torch.float64)
        ends = [matched(z.detach() + sign * 1e-6 * way).loss for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close((z.grad * way).sum(), slope, rtol=1e-5, atol=1e-9)
