import json

import pytest
import torch
from accelerate import Accelerator

from latentdc import checkpoint
from latentdc.data.open import open_dataset
from latentdc.errors import RunError
from latentdc.images import from_uint8
from latentdc.methods.context import Context
from latentdc.methods.latents import initial_latents
from latentdc.methods.log import StepLog
from latentdc.methods.loop import Work, image_gradient, match_steps
from latentdc.methods.rates import make_optimizer
from latentdc.methods.real import RealBatches
from latentdc.objectives.build import build_objective
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Data, Matching, ObjectiveSettings
from tests.methods import setup
from tests.priors import small


def pieces(prior, **rates):
    data = setup.dataset()
    latents = initial_latents(data, prior, range(3), ipc=2, seed=0)
    optimizer = make_optimizer(latents, Matching(**{"lr_z": 0.5, "lr_c": 0.25, **rates}))
    return latents, optimizer, RealBatches(data, range(3), batch=4, seed=0)


def work(latents, prior, objective, real, optimizer):
    classes = latents.classes
    return Work(latents, prior, objective, real, optimizer, Accelerator(), lambda _: classes)


def test_two_steps_are_sgd_with_momentum_and_rates_of_their_own():
    prior, objective = small.prior(steps=2), setup.objective()
    latents, optimizer, real = pieces(prior)
    z, c, noise = (torch.cat(parts).detach() for parts in (latents.z, latents.c, latents.noise))
    for _ in match_steps(work(latents, prior, objective, real, optimizer), 0, 2):
        pass
    velocity = [torch.zeros_like(z), torch.zeros_like(c)]
    for step in range(2):
        leaves = [z.requires_grad_(), c.requires_grad_()]
        images = prior.decode(*leaves, noise)
        leaf = images.detach().requires_grad_()
        objective.accumulate(step, leaf, latents.labels, real)
        gradients = torch.autograd.grad(images, leaves, leaf.grad)
        velocity = [0.5 * v + g for v, g in zip(velocity, gradients, strict=True)]
        z, c = (z - 0.5 * velocity[0]).detach(), (c - 0.25 * velocity[1]).detach()
    torch.testing.assert_close(torch.cat(latents.z).detach(), z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(latents.c).detach(), c, rtol=1e-4, atol=1e-4)


def test_a_rate_of_zero_leaves_the_condition_alone():
    prior = small.prior(steps=2)
    latents, optimizer, real = pieces(prior, lr_c=0.0)
    before = torch.cat(latents.c).detach()
    next(match_steps(work(latents, prior, setup.objective(), real, optimizer), 0, 1))
    assert torch.equal(torch.cat(latents.c), before)


def test_real_batches_are_keyed_by_step_and_class_and_hold_no_image_twice():
    data = setup.dataset()
    real = RealBatches(data, range(3), batch=4, seed=0)
    assert torch.equal(real(3, 1), RealBatches(data, range(1, 2), batch=4, seed=0)(3, 1))
    assert not torch.equal(real(3, 1), real(4, 1))
    assert len({image.sum().item() for image in real(0, 2)}) == 4
    everything = RealBatches(data, range(3), batch=99, seed=0)(0, 2)
    expected = from_uint8(data.images[data.members(2)])
    assert sorted(everything.sum((1, 2, 3)).tolist()) == sorted(expected.sum((1, 2, 3)).tolist())


def test_the_loss_falls_from_noise():
    digits, prior = open_dataset(Data(resolution=16), "train"), PixelPrior(16)
    latents = initial_latents(digits, prior, range(10), ipc=1, seed=0, from_noise=True)
    settings = ObjectiveSettings(network="convnet3@16")
    objective = build_objective(settings, num_classes=10, resolution=16)
    real = RealBatches(digits, range(10), batch=32, seed=0)
    optimizer = make_optimizer(latents, Matching(lr_z=3.0))
    run = match_steps(work(latents, prior, objective, real, optimizer), 0, 30)
    losses = [step.loss.item() for step in run]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


class TotalVariance:
    """An objective whose classes act on each other: the variance of all mean brightnesses."""

    scope = "set"
    sums_classes = True

    def accumulate(self, step, synthetic, labels, real):
        loss = synthetic.mean(dim=(1, 2, 3)).var()
        loss.backward()
        return loss.detach()


def test_an_objective_over_the_whole_set_reaches_the_images():
    decoded = torch.rand(6, 3, 8, 8)
    gradient, _ = image_gradient(TotalVariance(), 0, decoded, torch.zeros(6), None, Accelerator())
    leaf = decoded.clone().requires_grad_()
    leaf.mean(dim=(1, 2, 3)).var().backward()
    torch.testing.assert_close(gradient, leaf.grad)


def log(**options):
    given = {"start": 0, "steps": 30, "shared": False, "lrs": {"lr_z": 0.5}, "advice": "Rest"}
    given |= options
    return StepLog(**given, accelerator=Accelerator())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step():
    steps = log()
    with pytest.raises(RunError, match=r"nan at step 3; .* Rest, and give"):
        for value in [1.0, 1.0, 1.0, float("nan"), *[1.0] * 6]:
            steps.record(torch.tensor(value))


def test_measures_of_a_continued_run_hold_every_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = log(on_step=checkpoint.in_folder(tmp_path, Context()).on_step)
    for value in range(20):
        first.record(torch.tensor(2.0 * value), classes=2)
    with path.open("a") as file:
        file.write('{"step": 2')  # cut short by a kill
    again = log(start=15, on_step=checkpoint.in_folder(tmp_path, Context()).on_step)
    for _ in range(15, 30):
        again.record(torch.tensor(0.0))
    again.flush()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(30))
    assert [line["loss"] for line in lines[:15]] == list(range(15))
    assert {line["lr_z"] for line in lines} == {0.5}
