"""Mini-batches of classes: which classes a step moves, and that it leaves the others alone."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from latentdc import checkpoint
from latentdc.errors import InputError
from latentdc.methods.checks import check_match
from latentdc.methods.context import Context
from latentdc.methods.latents import initial_latents, most_together, own_classes, step_classes
from latentdc.methods.loop import Work, match_steps
from latentdc.methods.matching import match
from latentdc.methods.rates import make_optimizer
from latentdc.methods.real import RealBatches
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Matching, ObjectiveSettings, Recipe
from tests.methods import setup


def epoch(num_classes: int, per_step: int, number: int = 0, seed: int = 0):
    steps = -(-num_classes // per_step)
    first = number * steps
    return [step_classes(num_classes, per_step, first + i, seed) for i in range(steps)]


@pytest.mark.parametrize(("num_classes", "per_step"), [(10, 3), (10, 10), (7, 1), (1000, 64)])
def test_an_epoch_meets_every_class_once(num_classes, per_step):
    for number in range(2):
        steps = epoch(num_classes, per_step, number)
        assert sorted(label for step in steps for label in step) == list(range(num_classes))
        assert max(map(len, steps)) <= per_step
        assert all(list(step) == sorted(step) for step in steps)


def test_epochs_and_seeds_differ_and_a_choice_repeats():
    assert epoch(100, 10) == epoch(100, 10)
    assert epoch(100, 10) != epoch(100, 10, number=1)
    assert epoch(100, 10) != epoch(100, 10, seed=1)
    assert step_classes(5, None, 3, 0) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(("processes", "per_step"), [(2, 2), (3, 10), (4, 64), (8, 20)])
def test_a_process_has_its_share_of_every_step(processes, per_step):
    shares = [own_classes(1000, process, processes) for process in range(processes)]
    for step in epoch(1000, per_step)[:-1]:
        for own in shares:
            count = sum(label in own for label in step)
            assert abs(count - len(step) * len(own) / 1000) < 2


@pytest.mark.parametrize("per_step", [None, 1, 2, 3, 7, 10, 13])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_memory_is_planned_for_the_largest_share_of_a_step(per_step, processes):
    steps = epoch(13, per_step or 13) + epoch(13, per_step or 13, number=1)
    shares = [own_classes(13, process, processes) for process in range(processes)]
    met = max(sum(label in own for label in step) for own in shares for step in steps)
    planned = most_together(13, per_step, processes)
    assert met <= planned <= min(max(map(len, shares)), per_step or 13)
    if per_step is None:
        assert planned == -(-13 // processes)


def test_two_processes_plan_for_half_of_the_classes_of_a_step():
    assert most_together(100, 10, 2) == 5 and most_together(1000, 64, 4) <= 17


class Pull:
    """Half the squared distance to a constant that depends on the step; its loss counts classes."""

    scope = "class"
    sums_classes = True

    def accumulate(self, step, synthetic, labels, real):
        synthetic.grad = synthetic.detach() - step
        return torch.tensor(float(len(labels.unique())))

    def state(self):
        return {}

    def restore(self, state):
        pass


def two_of_three(step):
    return step_classes(3, 2, step, 0)


def test_untouched_classes_and_their_momentum_are_left_alone():
    data, prior, steps = setup.dataset(), PixelPrior(8, clamp=False), 9
    latents = initial_latents(data, prior, range(3), ipc=2, seed=0)
    optimizer = make_optimizer(latents, Matching(lr_z=0.1))
    z = [part.detach().clone() for part in latents.z]
    velocity = [torch.zeros_like(part) for part in z]
    real = RealBatches(data, range(3), batch=4, seed=0)
    work = Work(latents, prior, Pull(), real, optimizer, Accelerator(), two_of_three)
    for step in match_steps(work, 0, steps):
        moved = two_of_three(step.index)
        for label in moved:
            velocity[label] = 0.5 * velocity[label] + (z[label] - step.index)
            z[label] = z[label] - 0.1 * velocity[label]
        assert step.loss == len(moved)
        for label in range(3):
            torch.testing.assert_close(latents.z[label].detach(), z[label])


def test_the_noted_loss_is_that_of_one_class(tmp_path):
    context = checkpoint.in_folder(tmp_path, Context())
    settings = Matching(steps=6, classes_per_step=2)
    match(setup.dataset(), PixelPrior(8), Pull(), settings, context)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [1.0] * 6


def test_mini_batches_that_cannot_be_are_refused():
    def check(per_step, processes=1, scope="class"):
        around = SimpleNamespace(num_processes=processes, device="cpu")
        context = SimpleNamespace(ipc=1, accelerator=around)
        objective = SimpleNamespace(scope=scope, state=dict)
        settings, names = Matching(classes_per_step=per_step), list("abcdefghij")
        check_match(dict.fromkeys(names, 1), PixelPrior(8), objective, settings, context, steps=1)

    check(None, processes=4, scope="set"), check(10), check(4, processes=4)
    with pytest.raises(InputError, match="between the number of processes, 1, and that of classes"):
        check(11)
    with pytest.raises(
        InputError, match="classes_per_step=3 is between the number of processes, 4"
    ):
        check(3, processes=4)
    with pytest.raises(InputError, match="compares all classes at once"):
        check(5, scope="set")
    with pytest.raises(InputError, match="classes_per_step is at least 1"):
        Matching(classes_per_step=0)
    with pytest.raises(InputError, match="trains students on all classes at once"):
        Recipe(objective=ObjectiveSettings(kind="mtt"), distill=Matching(classes_per_step=5))
