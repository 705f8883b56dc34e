"""The two halves of a step, the objective's gradient at the images and the prior's at z and c."""

import pytest
import torch

from latentdc import draws
from latentdc.augment.dsa import augment_classes, draw_augmentation
from latentdc.networks.build import new_network
from latentdc.objectives.distribution import distribution_matching
from latentdc.objectives.gradient import match_gradients
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.schedule import make_schedule
from latentdc.priors.small import build_scheduler
from tests.priors import small


def match_distributions(student, real, synthetic, labels):
    return distribution_matching(student.features, real, synthetic)


LABELS, COUNTS = [0, 2], [2, 2]


def double_prior(kind):
    if kind == "pixel":
        return PixelPrior(8, clamp=False)
    if kind == "autoencoder":
        return AutoencoderPrior(small.autoencoder().double(), resolution=8)
    return DiffusionPrior(
        AutoencoderPrior(small.autoencoder().double(), resolution=8),
        UNetDenoiser(small.unet().double(), small.embedding().double()),
        make_schedule(build_scheduler(), 3),
        small.settings(steps=3, guidance=2.0),
        class_names=small.CLASSES,
    )


def loss_of(match, student, images):
    real = [torch.randn(3, 3, 8, 8, generator=draws.generator(7, i)).double() for i in LABELS]
    drawn = [draw_augmentation("color_scale_rotate", draws.generator(8, i)) for i in LABELS]
    made = augment_classes(images, drawn, COUNTS).split(COUNTS)
    return match(student, real, made, LABELS)


@pytest.mark.smoke
@pytest.mark.parametrize("match", [match_distributions, match_gradients])
@pytest.mark.parametrize("kind", ["pixel", "autoencoder", "diffusion"])
def test_the_chain_from_z_and_c_to_the_loss_agrees_with_finite_differences(kind, match):
    prior = double_prior(kind)
    student = new_network("convnet3@4", 0, num_classes=3, resolution=8, seed=0).double()
    source = draws.generator(3)
    z = torch.randn(4, *prior.latent_shape, generator=source, dtype=torch.float64)
    noise = torch.randn(z.shape, generator=source, dtype=torch.float64) if prior.has_noise else None
    c = prior.condition(torch.tensor(LABELS).repeat_interleave(2))
    inputs = [z] if c is None else [z, c.double()]

    def decode(inputs):
        return prior.decode(inputs[0], inputs[1] if len(inputs) > 1 else None, noise)

    leaves = [part.clone().requires_grad_() for part in inputs]
    decoded = decode(leaves)
    images = decoded.detach().requires_grad_()
    loss_of(match, student, images).backward(inputs=[images])
    decoded.backward(images.grad)
    for index, leaf in enumerate(leaves):
        towards = torch.randn(leaf.shape, generator=source, dtype=torch.float64)
        towards /= towards.norm()
        step, ends = 1e-6, []
        for sign in (1, -1):
            there = list(inputs)
            there[index] = inputs[index] + sign * step * towards
            ends.append(loss_of(match, student, decode(there).detach()).item())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert abs(slope) > 1e-5
        assert (leaf.grad * towards).sum().item() == pytest.approx(slope, rel=1e-4)
