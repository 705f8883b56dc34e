"""A class-conditional checkpoint of CompVis' own code, against what that code computed from it.

Errors are relative to the largest element. The expected sampler is the released LD3M one: the `x0`
form of the skip.
"""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from latentdc.priors.convert.__main__ import main
from latentdc.priors.diffusion import DiffusionPrior
from tests.priors import small
from tests.shared import shared_data

LABELS = torch.tensor([3, 7])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    source, out = shared_data("compvis_small"), tmp_path_factory.mktemp("prior") / "small"
    main([str(source / "model.ckpt"), "--config", str(source / "config.yaml"), str(out)])
    return out


@pytest.fixture(params=[5, 10])
def both(request, folder) -> tuple[DiffusionPrior, dict[str, Tensor]]:
    """The prior with S steps, and what the original modules gave."""
    steps = request.param
    prior = small.load(folder, resolution=64, steps=steps, guidance=3.0)
    assert isinstance(prior, DiffusionPrior)
    return prior, load_file(shared_data("compvis_small") / f"expected_steps{steps}.safetensors")


def close(found: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    worst = float((found.detach() - expected).abs().max() / expected.abs().max())
    assert found.shape == expected.shape and worst < relative


def test_the_encoder_gives_the_same_latents(both):
    prior, expected = both
    close(prior.encode(expected["image_in"]), expected["latent_encoded"])


@torch.no_grad()
def test_the_unet_gives_the_same_prediction(both):
    prior, expected = both
    c, x = prior.condition(LABELS), expected["unet_in"]
    assert c is not None
    made = [prior.denoiser(x[i : i + 1], t, c[i : i + 1]) for i, t in enumerate(expected["unet_t"])]
    close(torch.cat(made), expected["unet_out"])


@torch.no_grad()
def test_the_decoder_gives_the_same_images(both):
    prior, expected = both
    close(
        prior.autoencoder.autoencoder.decode(expected["decode_in"]).sample, expected["decode_out"]
    )


def test_the_conditions_are_the_same(both):
    prior, expected = both
    c, null = prior.condition(LABELS), prior.denoiser.null
    assert c is not None and null is not None
    assert c.equal(expected["ld3m_c"]) and null.expand(2, -1, -1).equal(expected["uncond"])


def test_the_sampler_and_its_gradients_are_the_same(both):
    prior, expected = both
    z, c = (expected[f"ld3m_{name}"].clone().requires_grad_() for name in "zc")
    close(prior.denoise(z, c, expected["noise"]), expected["ld3m_latent_out"])
    image01 = (prior.decode(z, c, expected["noise"]) + 1) / 2
    close(image01, expected["ld3m_image01"])
    (image01 * expected["probe"]).sum().backward()
    close(z.grad, expected["ld3m_grad_z"], relative=1e-3)
    close(c.grad, expected["ld3m_grad_c"], relative=1e-3)
