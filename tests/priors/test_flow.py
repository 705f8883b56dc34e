"""Flow matching: the sampler's steps, and priors that are flows."""

import itertools
import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from latentdc.errors import InputError
from latentdc.priors.sampler import Guide, invert, noised, sample
from latentdc.priors.schedule import make_schedule
from latentdc.recipe.prior import Flow
from tests.priors import small
from tests.priors.test_sampler import draw, toy_network


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_is_diffusers_euler(shift):
    """In the direction of SD 3 and FLUX: time 1000 s, v = noise - data."""
    scheduler, predict = FlowMatchEulerDiscreteScheduler(shift=shift), toy_network()
    flow = Flow(noise_at=1, velocity="noise-data", time_scale=1000.0)
    ours = sample(predict, draw(1), make_schedule(scheduler, 5, flow))
    scheduler.set_timesteps(5)
    x = draw(1)
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, float(t)), t, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


def toy_flow(noise_at, velocity, scale):
    """The same flow, as a network that counts time so sees it: v = noise - data at s = 1 - t."""

    def predict(x, time):
        level = time / scale if noise_at == 1 else 1 - time / scale
        v = torch.tanh(x + level)
        return v if velocity == "noise-data" else -v

    flow = Flow(noise_at=noise_at, velocity=velocity, time_scale=scale)
    return predict, make_schedule(FlowMatchEulerDiscreteScheduler(), 6, flow)


def test_all_directions_signs_and_scales_of_a_flow_are_one():
    made = []
    for form in itertools.product((0, 1), ("data-noise", "noise-data"), (1.0, 1000.0)):
        predict, schedule = toy_flow(*form)
        made.append(sample(predict, draw(1), schedule))
    for other in made[1:]:
        torch.testing.assert_close(other, made[0])


def test_a_flow_is_noised_guided_and_inverted_in_its_own_weights():
    """x = (1 - s) x0 + s eps, and v = eps - x0."""
    predict, schedule = toy_flow(0, "data-noise", 1.0)
    levels = [1 - alpha**0.5 for alpha in schedule.alphas]
    x = noised(draw(1), draw(2), schedule, 2)
    torch.testing.assert_close(x, (1 - levels[2]) * draw(1) + levels[2] * draw(2))

    def correct(state):
        s = levels[state.index]
        torch.testing.assert_close((state.signal, state.rest), (1 - s, s))
        torch.testing.assert_close(state.x, (1 - s) * state.x0 + s * state.eps)
        pulled = state.with_x0(0.5 * state.x0, consistent=True)
        torch.testing.assert_close(state.x, (1 - s) * pulled.x0 + s * pulled.eps)
        torch.testing.assert_close(state.with_eps(pulled.eps).x0, pulled.x0)
        return pulled

    made = sample(predict, x, schedule, start=2, guides=[Guide(correct)])
    assert not made.allclose(sample(predict, x, schedule, start=2))
    constant, v = draw(4), lambda x, time: draw(4)
    there = invert(v, draw(1), schedule)
    torch.testing.assert_close(there, draw(1) - constant)  # data - noise, for a time of 1
    torch.testing.assert_close(sample(v, there, schedule), draw(1))


SIT = {"noise_at": 0, "velocity": "data-noise", "time_scale": 1.0}


def flow_prior(folder, **config):
    """A small class-conditional network as a flow, with that scheduler_config.json."""
    if not (folder / "vae").is_dir():
        small.save(folder)
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(config or {"prediction_type": "flow"}))
    return folder


def test_a_flow_says_its_direction_sign_and_time_scale(tmp_path):
    for config in ({"prediction_type": "flow"}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}):
        flow_prior(tmp_path, **config)
        with pytest.raises(InputError, match=r"differ in prior\.flow\.noise_at, prior\.flow\.vel"):
            small.load(tmp_path, steps=2)
        with pytest.raises(InputError, match=r"differ in prior\.flow\.time_scale: give"):
            small.load(tmp_path, flow=Flow(**{**SIT, "time_scale": None}))
    small.save(tmp_path)
    with pytest.raises(InputError, match=r"prior\.flow is for flow matching, .* predicts epsilon"):
        small.load(tmp_path, flow=Flow(**SIT))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting=True: its steps depend"),
        ({"invert_sigmas": True}, "invert_sigmas=True: the direction of time is prior.flow"),
        ({"stochastic_sampling": True}, "stochastic_sampling=True: a flow is walked as an ODE"),
        ({"shift": -1.0}, "has no schedule: shift is a positive number, got -1"),
        ({"num_train_timesteps": "much"}, "has no schedule: "),
    ],
)
def test_flows_of_other_kinds_are_refused(tmp_path, config, told):
    flow_prior(tmp_path, _class_name="FlowMatchEulerDiscreteScheduler", **config)
    with pytest.raises(InputError, match=told):
        small.load(tmp_path, steps=2, flow=Flow(**SIT))


def test_a_flow_is_sampled_by_its_ode_alone(tmp_path):
    """SiT's direction: x0 = x + (1 - t) v and x' = x + dt v, from t = 0 to 1 in equal steps."""
    options = {"steps": 4, "guidance": 1.0, "flow": Flow(**SIT)}
    prior = small.load(flow_prior(tmp_path), **options)
    labels, images = torch.tensor([0, 2]), [("zero", 0), ("two", 0)]
    with pytest.raises(InputError, match="whose steps add no noise: eta is 0, got 1"):
        prior.sample(labels, images)
    states = []
    watch = Guide(lambda state: states.append(state) or state)
    ours = prior.sample(labels, images, eta=0.0, guides=[watch])
    x, c = states[0].x, prior.condition(labels)
    with torch.no_grad():
        for index, time in enumerate((0.0, 0.25, 0.5, 0.75)):
            v = prior.denoiser(x, torch.tensor(time), c)
            torch.testing.assert_close(states[index].x0, x + (1 - time) * v)
            x = x + 0.25 * v
    torch.testing.assert_close(ours, x)
    assert prior.settings["flow"] == SIT
    for name, told in (("std", "a flow's steps add none"), ("alpha", "a flow has no alpha")):
        guide = Guide(lambda s, name=name: s.with_mean(s.mean * getattr(s, name)))
        with pytest.raises(InputError, match=told):
            prior.sample(labels, images, eta=0.0, guides=[guide])
    with pytest.raises(InputError, match="step 0 starts from noise alone"):
        prior.sample(labels, images, eta=0.0, guides=[Guide(lambda s: s.with_eps(s.eps))])
    z = torch.zeros(2, 2, 4, 4).requires_grad_()
    prior.decode(z, c, torch.randn(2, 2, 4, 4)).square().sum().backward()
    assert z.grad.abs().sum() > 0
    without = small.load(tmp_path, skip="none", **options)
    with pytest.raises(InputError, match=r"prior\.skip=none leaves no way for a latent"):
        without.decode(z, c, torch.randn(2, 2, 4, 4))


def test_flows_under_unknown_conditions_are_refused(tmp_path):
    flow_prior(tmp_path)
    config = json.loads((tmp_path / "unet/config.json").read_text())
    config["_class_name"] = "SD3Transformer2DModel"
    (tmp_path / "unet/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"is a SD3Transformer2DModel; known are"):
        small.load(tmp_path, flow=Flow(**SIT))
