import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler

from latentdc.errors import InputError
from latentdc.priors.sampler import (
    Guide,
    invert,
    keyed_noise,
    mean_skip,
    noised,
    sample,
    x0_skip,
)
from latentdc.priors.schedule import make_schedule
from latentdc.priors.small import build_scheduler


def toy_network(seed=0):
    weight = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def predict(x, timestep):
        return torch.tanh(torch.einsum("oc,bchw->bohw", weight, x) + timestep / 1000)

    return predict


def draw(*keys, count=2):
    source = torch.Generator().manual_seed(sum(keys))
    return torch.randn(count, 2, 3, 3, dtype=torch.float64, generator=source)


def decode(predict, z, noise, schedule, *, skip, clean=None, kept=None):
    """As LD3M: z noised to the last timestep, and denoised with a skip."""
    x, count = noised(z, noise, schedule), len(schedule.timesteps)
    guides = {"x0": [x0_skip(z if clean is None else clean, count)], "mean": [mean_skip(x, count)]}
    return sample(
        predict,
        x.view_as(x),
        schedule,
        start=int(skip == "mean"),
        guides=guides.get(skip, []),
        kept=kept,
    )


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
    ours = decode(predict, z, noise, make_schedule(scheduler, steps), skip="none")
    scheduler.set_timesteps(steps)
    x = scheduler.add_noise(z, noise, scheduler.timesteps[:1])
    for timestep in scheduler.timesteps:
        x = scheduler.step(predict(x, int(timestep)), timestep, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


def test_x0_skip_follows_the_released_code():
    schedule, predict = make_schedule(build_scheduler(), 5), toy_network()
    z, noise, clean = draw(1), draw(2), draw(3)
    ours = decode(predict, z, noise, schedule, skip="x0", clean=clean)
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
    ours = decode(predict, z, noise, schedule, skip="mean")
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

    def watched(x, timestep):
        asked.append(timestep)
        return predict(x.double(), timestep).float()

    made = decode(watched, z, noise, schedule, skip="mean")
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
    made = decode(toy_network(), draw(1), draw(2), schedule, skip="x0")
    assert made.isfinite().all()
    leading = DDIMScheduler(rescale_betas_zero_snr=True)  # whose steps do not come there
    assert make_schedule(leading, 10).alphas[0] > 0


@pytest.mark.parametrize("skip", ["x0", "mean", "none"])
def test_gradients_agree_with_finite_differences(skip):
    schedule, predict, noise = make_schedule(build_scheduler(), 3), toy_network(), draw(2, count=1)
    z = draw(1, count=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: decode(predict, z, noise, schedule, skip=skip), (z,), atol=1e-6
    )


def test_sampler_arithmetic_keeps_the_precision_of_the_latents():
    schedule, z, noise = make_schedule(build_scheduler(), 4), draw(1).float(), draw(2).float()
    coarse = torch.randn(2, 2, 3, 3).bfloat16()
    made = decode(lambda x, *_: coarse, z, noise, schedule, skip="x0")
    exact = decode(lambda x, *_: coarse.double(), z.double(), noise.double(), schedule, skip="x0")
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("options", [{"steps_offset": 1, "set_alpha_to_one": False}, {}])
def test_ancestral_sampling_is_diffusers_ddim_with_eta(prediction, eta, options):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction, **options)
    predict, x = toy_network(), draw(1)
    noises = [draw(10, i) for i in range(5)]
    schedule = make_schedule(scheduler, 5)
    ours = sample(predict, x, schedule, eta=eta, noise=noises.__getitem__)
    scheduler.set_timesteps(5)
    for index, t in enumerate(scheduler.timesteps):  # the last step adds no noise
        made, noise, share = predict(x, int(t)), noises[index], eta if index < 4 else 0.0
        x = scheduler.step(made, t, x, eta=share, variance_noise=noise).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_ancestral_sampling_is_diffusers_ddpm(variance, monkeypatch):
    """Where the last step leads to an alpha of 1, as DDPMScheduler's always does."""
    scheduler = DDPMScheduler(clip_sample=False, variance_type=variance)
    mean, x, noises = toy_network(), draw(1), [draw(10, i) for i in range(5)]

    def predict(x, timestep):
        ranges = [torch.cos(3 * x)] if variance == "learned_range" else []
        return torch.cat([mean(x, timestep), *ranges], dim=1)

    scheduler.set_timesteps(5)
    schedule = make_schedule(DDIMScheduler(), 5)
    assert schedule.timesteps == tuple(map(int, scheduler.timesteps)) and schedule.previous[-1] == 1
    ours = sample(predict, x, schedule, eta=1.0, noise=noises.__getitem__)
    drawn = iter(noises)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(drawn)
    )
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, int(t)), t, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


def test_a_learned_range_lies_between_posterior_and_beta_and_counts_for_eta_1_alone():
    """std = exp((v log beta + (1 - v) log posterior) / 2), with v = (range + 1) / 2."""
    schedule, mean, x = make_schedule(build_scheduler(), 4), toy_network(), draw(1)
    ranges = torch.linspace(-1, 1, 36, dtype=torch.float64).view(2, 2, 3, 3)
    for eta in (1.0, 0.5, 0.0):
        states = []
        watch = Guide(lambda state, seen=states: seen.append(state) or state)
        predict = lambda x, t: torch.cat([mean(x, t), ranges], dim=1)  # noqa: E731
        sample(predict, x, schedule, eta=eta, noise=lambda _: draw(2), guides=[watch])
        for i, state in enumerate(states):
            a, after = schedule.alphas[i], schedule.previous[i]
            beta = 1 - a / after
            posterior, share = (1 - after) / (1 - a) * beta, (ranges + 1) / 2
            expected = eta * posterior**0.5
            if eta == 1:
                expected = (beta**share * posterior ** (1 - share)) ** 0.5
            expected = expected if i < 3 else 0.0
            torch.testing.assert_close(
                torch.as_tensor(state.std).double(), torch.as_tensor(expected).double()
            )


def test_a_later_start_goes_on_where_the_whole_way_passes():
    schedule, predict, x = make_schedule(build_scheduler(), 6), toy_network(), draw(1)
    states = []
    watch = Guide(lambda state: states.append(state) or state)
    whole = sample(predict, x, schedule, guides=[watch])
    assert [state.index for state in states] == [0, 1, 2, 3, 4, 5]
    assert whole.equal(sample(predict, states[4].x, schedule, start=4))
    z, noise = draw(2), draw(3)
    alpha = schedule.alphas[4]
    torch.testing.assert_close(
        noised(z, noise, schedule, 4), alpha**0.5 * z + (1 - alpha) ** 0.5 * noise
    )


@pytest.mark.parametrize("options", [{"steps_offset": 1, "set_alpha_to_one": False}, {}])
@pytest.mark.parametrize("stop", [0, 3])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_is_diffusers_ddim_backwards(options, stop, prediction):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction, **options)
    predict, z = toy_network(), draw(1)
    ours = invert(predict, z, make_schedule(scheduler, 5), stop=stop)
    backwards = DDIMInverseScheduler.from_config(scheduler.config)
    backwards.set_timesteps(5)
    x = z
    for t in backwards.timesteps[: 5 - stop]:
        x = backwards.step(predict(x, int(t)), t, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_undoes_ddim_where_the_noise_does_not_depend_on_x(prediction):
    schedule = make_schedule(DDIMScheduler(prediction_type="epsilon"), 5)
    constant, z = draw(4), draw(1)
    if prediction == "v_prediction":  # whose noise is signal v + rest x: linear in x, not constant
        schedule = make_schedule(DDIMScheduler(prediction_type=prediction), 1000)
    x = invert(lambda x, _: constant, z, schedule)
    back = sample(lambda x, _: constant, x, schedule)
    bound = 1e-9 if prediction == "epsilon" else 0.02
    torch.testing.assert_close(back, z, atol=bound, rtol=bound)


@pytest.mark.parametrize("steps", [4, 7, 14, 50])
def test_the_first_step_out_of_pure_noise_has_a_real_mean(steps):
    scheduler = DDIMScheduler(
        rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    schedule, x = make_schedule(scheduler, steps), draw(1)
    assert schedule.alphas[0] == 0
    noise = keyed_noise(0, [("one", number) for number in range(len(x))], x)
    made = sample(lambda x, _: 0.5 * x, x, schedule, eta=1.0, noise=noise)
    assert made.dtype == x.dtype and made.isfinite().all()


def test_an_images_noise_is_its_own_whatever_is_denoised_beside_it():
    like = torch.zeros(3, 2, 3, 3)
    together = keyed_noise(0, [("cat", 0), ("cat", 1), ("dog", 0)], like)
    alone = keyed_noise(0, [("dog", 0)], like[:1])
    assert together(4)[2:].equal(alone(4)) and not together(3)[2:].equal(alone(4))
    assert len({float(one.sum()) for one in together(0)}) == 3


def test_a_pull_in_units_of_the_noise_adds_to_the_mean():
    """MGD3's form: mean - lambda (x0 - mode) std; it vanishes with eta."""
    schedule, predict, x = make_schedule(build_scheduler(), 4), toy_network(), draw(1)
    mode, noises = draw(5), [draw(10, i) for i in range(4)]
    guide = Guide(lambda s: s.with_mean(s.mean - 0.1 * (s.x0 - mode) * s.std), steps=range(1, 3))
    options = {"eta": 1.0, "noise": noises.__getitem__}
    states = []
    watch = Guide(lambda state: states.append(state) or state)
    guided = sample(predict, x, schedule, guides=[guide, watch], **options)
    for index, state in enumerate(states):
        after = schedule.previous[index]
        mean = after**0.5 * state.x0 + (1 - after - state.std**2) ** 0.5 * state.eps
        assert (state.std > 0) == (index < 3)
        if index in (1, 2):
            mean = mean - 0.1 * state.std * (state.x0 - mode)
        torch.testing.assert_close(state.mean, mean)
    assert not guided.equal(sample(predict, x, schedule, **options))
    assert sample(predict, x, schedule, guides=[guide]).equal(sample(predict, x, schedule))


def test_corrections_of_x0_and_of_the_noise_agree_with_x():
    schedule, predict, x = make_schedule(build_scheduler(), 3), toy_network(), draw(1)
    seen = []

    def correct(state):
        pulled = state.with_x0(state.x0 - 0.5 * state.x0, consistent=True)
        seen.extend([state, pulled, state.with_eps(pulled.eps), state.with_x0(pulled.x0)])
        return pulled

    sample(predict, x, schedule, guides=[Guide(correct)])
    for state, pulled, by_eps, kept in zip(*[iter(seen)] * 4, strict=True):
        rebuilt = state.alpha**0.5 * pulled.x0 + (1 - state.alpha) ** 0.5 * pulled.eps
        torch.testing.assert_close(rebuilt, state.x)
        torch.testing.assert_close(by_eps.x0, pulled.x0)
        torch.testing.assert_close(by_eps.mean, pulled.mean)
        assert kept.eps is state.eps and kept.x0 is pulled.x0


def test_what_a_guide_added_to_the_mean_stays_when_a_later_one_changes_x0():
    schedule, predict, x = make_schedule(build_scheduler(), 3), toy_network(), draw(1)
    add = Guide(lambda s: s.with_mean(s.mean + 0.25))
    pull = Guide(lambda s: s.with_x0(0.5 * s.x0))
    one, other = (sample(predict, x, schedule, guides=some) for some in ([add, pull], [pull, add]))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("through", ["x0", "denoiser"])
def test_a_gradient_leads_through_what_a_guide_says(through):
    """The Jacobian of x0 = (x - s e(x)) / r, with e a constant or not."""
    schedule, predict, x = make_schedule(build_scheduler(), 3), toy_network(), draw(1)
    found, direction = [], draw(7)

    def correct(state):
        found.append((state, state.gradient((state.x0 * direction).sum())))
        return state.with_mean(state.mean - found[-1][1])

    with torch.no_grad():
        made = sample(predict, x, schedule, guides=[Guide(correct, through)])
    assert not made.requires_grad
    for state, gradient in found:
        wanted = direction / state.alpha**0.5
        if through == "denoiser":
            x = state.x.detach().requires_grad_()
            inner = (predict(x, state.timestep) * direction).sum()
            [jacobian] = torch.autograd.grad(inner, x)
            wanted = (direction - (1 - state.alpha) ** 0.5 * jacobian) / state.alpha**0.5
        torch.testing.assert_close(gradient, wanted)
