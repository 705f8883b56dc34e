import pytest
import torch

from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import network_autocast
from latentdc.priors.load_latent import keep_in_bf16
from tests.priors import small


def gradients(prior):
    source = torch.Generator().manual_seed(0)
    z = torch.randn(3, *prior.latent_shape, generator=source).requires_grad_()
    noise = torch.randn(z.shape, generator=source)
    c = prior.condition(torch.arange(3)).detach().requires_grad_()
    images = prior.decode(z, c, noise)
    images.square().sum().backward()
    return images.detach(), z.grad, c.grad


@pytest.mark.smoke
def test_weights_kept_in_bf16_give_the_bits_of_autocast():
    plain, kept = small.prior(precision="bf16"), small.prior(precision="bf16")
    keep_in_bf16(kept.denoiser.network)
    keep_in_bf16(kept.autoencoder.autoencoder.decoder)
    for one, other in zip(gradients(plain), gradients(kept), strict=True):
        assert torch.equal(one, other)


def test_norms_and_embeddings_stay_in_float32():
    unet = small.unet()
    keep_in_bf16(unet)
    kinds = {type(m).__name__: p.dtype for m in unet.modules() for p in m.parameters(recurse=False)}
    assert kinds["GroupNorm"] == kinds["LayerNorm"] == torch.float32
    assert kinds["Conv2d"] == kinds["Linear"] == torch.bfloat16


def test_latents_guidance_and_images_are_float32_around_bf16_networks():
    prior, inside = small.prior(precision="bf16", steps=2), []
    prior.denoiser.network.register_forward_hook(lambda *a: inside.append(a[-1].sample.dtype))
    prior.autoencoder.autoencoder.decoder.register_forward_hook(
        lambda *a: inside.append(a[-1].dtype)
    )
    images, to_z, to_c = gradients(prior)
    assert inside == [torch.bfloat16] * 3
    assert images.dtype == to_z.dtype == to_c.dtype == torch.float32
    x = torch.randn(3, *prior.latent_shape)
    c = prior.condition(torch.arange(3))
    calls = []
    prior.denoiser.network.register_forward_hook(lambda *a: calls.append(a[-1].sample))
    guided = prior.predict(x, prior.schedule.timesteps[0], prior.context(c)).guided
    without, under = calls[0].double().chunk(2)
    torch.testing.assert_close(guided.double(), without + 3 * (under - without))


def test_accelerates_autocast_alone_is_close_to_float32():
    wanted = gradients(small.prior())
    with torch.autocast("cpu", torch.bfloat16):
        images, to_z, _ = gradients(small.prior())
    assert images.dtype == torch.float32
    assert 0 < (images - wanted[0]).norm() / wanted[0].norm() < 0.02
    assert torch.nn.functional.cosine_similarity(to_z, wanted[1], dim=0).mean() > 0.98


def test_bf16_leaves_encoding_alone():
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    kept = AutoencoderPrior(small.autoencoder(), resolution=8, precision="bf16")
    keep_in_bf16(kept.autoencoder.decoder)
    wanted = AutoencoderPrior(small.autoencoder(), resolution=8).encode(images)
    assert torch.equal(kept.encode(images), wanted)


def test_no_autocast_of_its_own_leaves_the_launchers_on():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16), network_autocast(x.device, "no"):
        assert (x @ x).dtype == torch.bfloat16
    with network_autocast(x.device, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
