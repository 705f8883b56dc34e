import pytest
import torch
from diffusers import DDIMScheduler

from latentdc.errors import InputError
from latentdc.priors.sampler import make_schedule, sample
from latentdc.priors.small import build_scheduler


def toy_network(seed=0):
    weight = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def predict(x, timestep, context=None):
        return torch.tanh(torch.einsum("oc,bchw->bohw", weight, x) + timestep / 1000)

    return predict


def draw(*keys, count=2):
    source = torch.Generator().manual_seed(sum(keys))
    return torch.randn(count, 2, 3, 3, dtype=torch.float64, generator=source)


@pytest.mark.parametrize("steps", [2, 5, 10, 20])
def test_timesteps_are_those_of_compvis_where_steps_divide_1000(steps):
    schedule = make_schedule(build_scheduler(), steps)
    assert list(schedule.timesteps) == [1 + i * (1000 // steps) for i in reversed(range(steps))]


@pytest.mark.parametrize(("steps", "options"), [(1000, {"steps_offset": 1}), (1001, {})])
def test_more_steps_than_the_training_schedule_has_are_refused(steps, options):
    with pytest.raises(InputError, match=rf"prior\.steps={steps} is more .* of 1000 timesteps"):
        make_schedule(DDIMScheduler(**options), steps)
    assert make_schedule(DDIMScheduler(**options), steps - 1).timesteps[0] == 999


def test_schedule_has_the_published_cumulated_alphas():
    schedule = make_schedule(build_scheduler(), 10)
    published = [
        0.00086,
        0.00412,
        0.01548,
        0.04650,
        0.11400,
        0.23298,
        0.40522,
        0.61244,
        0.82115,
        0.99699,
    ]
    torch.testing.assert_close(
        torch.tensor(schedule.alphas), torch.tensor(published), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(schedule.previous[-1], 0.9985, atol=1e-6, rtol=0)
    assert schedule.previous[:-1] == schedule.alphas[1:]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("options", [{"steps_offset": 1, "set_alpha_to_one": False}, {}])
@pytest.mark.parametrize("steps", [4, 7])
def test_sampling_without_skip_is_diffusers_ddim(prediction, options, steps):
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", clip_sample=False, prediction_type=prediction, **options
    )
    predict, z, noise = toy_network(), draw(1), draw(2)
    ours = sample(predict, z, noise, make_schedule(scheduler, steps), skip="none")
    scheduler.set_timesteps(steps)
    x = scheduler.add_noise(z, noise, scheduler.timesteps[:1])
    for timestep in scheduler.timesteps:
        x = scheduler.step(predict(x, int(timestep)), timestep, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


def test_x0_skip_follows_the_released_code():
    schedule, predict = make_schedule(build_scheduler(), 5), toy_network()
    z, noise, clean = draw(1), draw(2), draw(3)
    ours = sample(predict, z, noise, schedule, skip="x0", clean=clean)
    abar = build_scheduler().alphas_cumprod.double()
    tau = [1 + i * 200 for i in range(5)]
    x = abar[tau[4]].sqrt() * z + (1 - abar[tau[4]]).sqrt() * noise
    for i in (4, 3, 2, 1, 0):
        e = predict(x, tau[i])
        x0 = (x - (1 - abar[tau[i]]).sqrt() * e) / abar[tau[i]].sqrt()
        x0 = (1 - i / 4) * x0 + (i / 4) * clean
        before = abar[tau[i - 1]] if i > 0 else abar[0]
        x = before.sqrt() * x0 + (1 - before).sqrt() * e
    torch.testing.assert_close(ours, x)


def test_mean_skip_follows_equation_7():
    schedule, predict = make_schedule(build_scheduler(), 5), toy_network()
    z, noise = draw(1), draw(2)
    ours = sample(predict, z, noise, schedule, skip="mean")
    abar = build_scheduler().alphas_cumprod.double()
    tau = [1 + i * 200 for i in range(5)]
    z_T = abar[tau[4]].sqrt() * z + (1 - abar[tau[4]]).sqrt() * noise
    x = z_T
    for t in (5, 4, 3, 2, 1):
        e = predict(x, tau[t - 1])
        before = abar[tau[t - 2]] if t > 1 else abar[0]
        x0 = (x - (1 - abar[tau[t - 1]]).sqrt() * e) / abar[tau[t - 1]].sqrt()
        mu = before.sqrt() * x0 + (1 - before).sqrt() * e
        x = (1 - t / 5) * mu + (t / 5) * z_T
    torch.testing.assert_close(ours, x)


def test_the_mean_skip_begins_at_z_T_to_the_bit():
    """Its first result has weight 0, and a network that overflows there cannot spoil it."""
    schedule, predict = make_schedule(build_scheduler(), 5), toy_network()
    z, noise = draw(1).float().requires_grad_(), draw(2).float()
    asked = []

    def watched(x, timestep, context=None):
        asked.append(timestep)
        return predict(x.double(), timestep).float()

    made = sample(watched, z, noise, schedule, skip="mean")
    assert asked == list(schedule.timesteps[1:])
    alphas, before = schedule.alphas, schedule.previous
    x = x_T = alphas[0] ** 0.5 * z + (1 - alphas[0]) ** 0.5 * noise
    for i, t in enumerate(schedule.timesteps):
        e = predict(x.double(), t).float()
        x0 = (x - (1 - alphas[i]) ** 0.5 * e) / alphas[i] ** 0.5
        mu = before[i] ** 0.5 * x0 + (1 - before[i]) ** 0.5 * e
        x = (1 - (5 - i) / 5) * mu + ((5 - i) / 5) * x_T
    assert made.equal(x)
    ours, plain = (torch.autograd.grad(out.sin().sum(), z)[0] for out in (made, x))
    assert ours.equal(plain)


def zero_snr(**options):
    return DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", **options)


def test_noise_predicted_where_nothing_else_is_left_is_refused():
    with pytest.raises(InputError, match=r"zero terminal SNR.*prediction_type is epsilon; correct"):
        make_schedule(zero_snr(), 10)
    with pytest.raises(InputError, match="zero terminal SNR"):
        make_schedule(DDIMScheduler(10, trained_betas=[0.01] * 9 + [1.0]), 10)
    schedule = make_schedule(zero_snr(prediction_type="v_prediction"), 10)
    assert schedule.alphas[0] == 0
    made = sample(toy_network(), draw(1), draw(2), schedule, skip="x0")
    assert made.isfinite().all()
    leading = DDIMScheduler(rescale_betas_zero_snr=True)  # whose steps do not come there
    assert make_schedule(leading, 10).alphas[0] > 0


@pytest.mark.parametrize("skip", ["x0", "mean", "none"])
def test_gradients_agree_with_finite_differences(skip):
    schedule, predict, noise = make_schedule(build_scheduler(), 3), toy_network(), draw(2, count=1)
    z = draw(1, count=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: sample(predict, z, noise, schedule, skip=skip), (z,), atol=1e-6
    )


def test_truncation_takes_early_predictions_for_constants():
    schedule, predict = make_schedule(build_scheduler(), 4), toy_network()
    noise, context = draw(2), draw(3).requires_grad_()
    z = draw(1).requires_grad_()
    abar = build_scheduler().alphas_cumprod.double()
    x = abar[751].sqrt() * z + (1 - abar[751]).sqrt() * noise
    for i in (3, 2, 1, 0):
        e = predict(x, 1 + 250 * i) + context
        e = e if i < 2 else e.detach()  # the last two steps are exact
        t, before = abar[1 + 250 * i], abar[1 + 250 * (i - 1)] if i > 0 else abar[0]
        x0 = (1 - i / 3) * (x - (1 - t).sqrt() * e) / t.sqrt() + (i / 3) * z
        x = before.sqrt() * x0 + (1 - before).sqrt() * e
    wanted = torch.autograd.grad(x.sin().sum(), (z, context))
    for memory in ("fast", "low", "replay"):
        ours = sample(
            lambda x, timestep, context: predict(x, timestep) + context,
            z,
            noise,
            schedule,
            skip="x0",
            context=context,
            memory=memory,
            truncate=2,
        )
        torch.testing.assert_close(ours, x)
        found = torch.autograd.grad(ours.sin().sum(), (z, context))
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_sampler_arithmetic_keeps_the_precision_of_the_latents():
    schedule, z, noise = make_schedule(build_scheduler(), 4), draw(1).float(), draw(2).float()
    coarse = torch.randn(2, 2, 3, 3).bfloat16()
    made = sample(lambda x, *_: coarse, z, noise, schedule, skip="x0")
    exact = sample(lambda x, *_: coarse.double(), z.double(), noise.double(), schedule, skip="x0")
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-6)
