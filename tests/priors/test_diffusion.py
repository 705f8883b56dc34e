import pytest
import torch

from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import ClassDenoiser, without_table
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import Plan
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.schedule import make_schedule
from latentdc.priors.small import build_scheduler
from tests.priors import small


def inputs(prior, count=3, dtype=torch.float32):
    source = torch.Generator().manual_seed(0)
    z = torch.randn(count, *prior.latent_shape, generator=source, dtype=dtype)
    noise = torch.randn(z.shape, generator=source, dtype=dtype)
    c = prior.condition(torch.arange(count) % 3)
    return z.requires_grad_(), c.to(dtype).detach().requires_grad_(), noise


class Calls:
    """Sample-forwards and sample-backwards of a UNet, and how many calls they took."""

    def __init__(self, module):
        self.forwards = self.backwards = self.calls = 0
        module.register_forward_pre_hook(self.forward)  # a recomputation stops before the end
        module.conv_out.register_full_backward_hook(self.backward)

    def forward(self, module, args):
        self.calls += 1
        self.forwards += len(args[0])

    def backward(self, module, incoming, outgoing):
        self.backwards += len(outgoing[0])


def gradients(prior, count=3, dtype=torch.float32):
    z, c, noise = inputs(prior, count, dtype)
    calls = Calls(prior.denoiser.network)
    images = prior.decode(z, c, noise)
    images.square().sum().backward()
    return images.detach(), z.grad, c.grad, calls


def test_a_fast_step_is_one_forward_and_one_backward_sweep():
    *_, calls = gradients(small.prior(steps=4, guidance=3.0))
    assert (calls.calls, calls.forwards, calls.backwards) == (4, 4 * 3 * 2, 4 * 3 * 2)


def test_a_memory_bounded_step_is_one_forward_sweep_more():
    *_, calls = gradients(small.prior(steps=4, guidance=3.0, memory="low", chunk=2))
    assert (calls.forwards, calls.backwards) == (2 * 4 * 3 * 2, 4 * 3 * 2)


def test_attention_is_torchs_fused_one(monkeypatch):
    called, fused = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: called.append(0) or fused(*a, **k),
    )
    gradients(small.prior(steps=2))
    assert called


@pytest.mark.parametrize(("memory", "sweeps"), [("fast", 1), ("low", 2)])
def test_the_mean_skip_spends_no_call_on_a_result_of_weight_0(memory, sweeps):
    *_, calls = gradients(small.prior(steps=4, skip="mean", memory=memory, chunk=3))
    assert (calls.forwards, calls.backwards) == (sweeps * 3 * 3 * 2, 3 * 3 * 2)


def test_guidance_of_one_spends_no_call_on_the_null_condition():
    *_, calls = gradients(small.prior(steps=4, guidance=1.0))
    assert calls.forwards == 4 * 3


@pytest.mark.smoke
@pytest.mark.parametrize("skip", ["x0", "mean", "none"])
def test_fast_and_memory_bounded_gradients_are_equal(skip):
    fast = gradients(small.prior(skip=skip))[:3]
    bounded = gradients(small.prior(skip=skip, memory="low", chunk=2))[:3]
    for one, other in zip(fast, bounded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("skip", ["x0", "mean", "none"])
def test_gradients_with_some_steps_kept_are_equal_to_1e_6(skip):
    def found(plan):
        prior = small.in_double(small.prior(skip=skip, steps=4))
        prior.plan = plan
        return gradients(prior, dtype=torch.float64)[:3]

    kept = found(Plan("mixed", chunk=2, decoder_chunk=1, kept_steps=7))  # of 3 images: 2, 3 steps
    for one, other in zip(found(Plan("fast")), kept, strict=True):
        assert (one - other).norm() < 1e-6 * one.norm()


def test_steps_that_are_kept_run_once_and_the_others_twice():
    prior = small.prior(steps=4, guidance=3.0)
    prior.plan = Plan("mixed", chunk=2, decoder_chunk=3, kept_steps=7)
    *_, calls = gradients(prior)
    assert calls.forwards == (2 * 4 * 3 - 7) * 2 == (prior.plan.sweeps(3, 4) - 1) * 4 * 3 * 2


@pytest.mark.parametrize("skip", ["x0", "mean"])
@pytest.mark.parametrize("memory", ["fast", "low"])
def test_conditions_alone_can_be_learned(memory, skip):
    prior = small.prior(memory=memory, chunk=2, skip=skip)
    wanted = gradients(small.prior(skip=skip))[2]
    z, c, noise = inputs(prior)
    prior.decode(z.requires_grad_(False), c, noise).square().sum().backward()
    assert z.grad is None
    torch.testing.assert_close(c.grad, wanted, rtol=1e-4, atol=1e-5)


def test_gradients_of_z_and_c_agree_with_finite_differences():
    prior = small.in_double(small.prior(steps=2, guidance=2.0))
    z, c, noise = inputs(prior, count=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda z, c: prior.denoise(z, c, noise), (z, c), atol=1e-5, nondet_tol=1e-9, fast_mode=True
    )
    assert torch.autograd.gradcheck(
        lambda z: prior.autoencoder.decode(0.1 * z), (z,), atol=1e-5, fast_mode=True
    )


def test_decoding_is_a_function_in_the_image_range():
    prior = small.prior()
    z, c, noise = inputs(prior)
    first, again = prior.decode(z, c, noise), prior.decode(z, c, noise)
    assert torch.equal(first, again)
    assert first.shape == (3, 3, 8, 8) and first.abs().max() <= 1


def test_guidance_extrapolates_from_the_null_condition():
    prior = small.prior(steps=2, skip="none", guidance=3.0)
    z, c, noise = (x.detach() for x in inputs(prior))
    unet, schedule = small.unet(), prior.schedule
    x = schedule.alphas[0] ** 0.5 * z + (1 - schedule.alphas[0]) ** 0.5 * noise
    null = prior.denoiser.null.expand_as(c)
    for index, timestep in enumerate(schedule.timesteps):
        with torch.no_grad():
            without = unet(x, timestep, encoder_hidden_states=null).sample
            under = unet(x, timestep, encoder_hidden_states=c).sample
        e = without + 3.0 * (under - without)
        x0 = (x - (1 - schedule.alphas[index]) ** 0.5 * e) / schedule.alphas[index] ** 0.5
        after = schedule.previous[index]
        x = after**0.5 * x0 + (1 - after) ** 0.5 * e
    torch.testing.assert_close(prior.denoise(z, c, noise), x, rtol=1e-4, atol=1e-4)


def test_latents_are_in_the_units_of_the_config():
    vae = small.autoencoder()
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        mode = vae.encode(images).latent_dist.mode()
    z = AutoencoderPrior(vae, resolution=8).encode(images)
    torch.testing.assert_close(z, (mode - 0.1) * 0.5)


def test_the_dit_condition_reaches_what_the_class_label_reached():
    labels, x = torch.tensor([0, 2]), torch.randn(2, 2, 4, 4)
    with torch.no_grad():
        wanted = small.dit().eval()(x, torch.full((2,), 401), class_labels=labels).sample
    denoiser = ClassDenoiser(*without_table(small.dit()))
    torch.testing.assert_close(
        denoiser(x, torch.tensor(401), denoiser.condition(labels)), wanted, rtol=1e-4, atol=1e-4
    )
    assert denoiser.null.shape == (1, 1, 8)


def test_a_dit_prior_decodes_at_another_resolution():
    space = AutoencoderPrior(small.autoencoder(), resolution=16)
    settings = small.settings(steps=2)
    denoiser, schedule = (
        ClassDenoiser(*without_table(small.dit())),
        make_schedule(build_scheduler(), 2),
    )
    prior = DiffusionPrior(space, denoiser, schedule, settings, class_names=None)
    z, c, noise = inputs(prior)
    images = prior.decode(z, c, noise)
    images.sum().backward()
    assert images.shape == (3, 3, 16, 16) and c.grad.abs().sum() > 0


def test_pixels_outside_the_range_can_come_back():
    z = torch.tensor([-3.0, 0.5, 2.0]).view(1, 3, 1, 1).requires_grad_()
    images = PixelPrior(1).decode(z, None, None)
    images.sum().backward()
    torch.testing.assert_close(images.detach().flatten(), torch.tensor([-1.0, 0.5, 1.0]))
    assert z.grad.flatten().tolist() == [1, 1, 1]
    assert torch.equal(PixelPrior(1, clamp=False).decode(z, None, None), z)
