"""`distill.lr_z: auto`: rates from the size of z and its gradient, and from short trials."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from latentdc import Context, Matching, PriorSettings, load_prior, match
from latentdc.checkpoint import in_folder
from latentdc.errors import InputError, RunError
from latentdc.methods.rates import FACTOR, FIRST_TRIED, MOVE, TRIALS
from latentdc.objectives.build import build_objective
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Loops, ObjectiveSettings
from latentdc.run_folder import stage_seconds
from tests.methods.setup import dataset
from tests.priors import small

SIZE = 8


class Pull:
    """An objective whose gradient at the images is `strength` everywhere, and which notes steps."""

    scope, sums_classes, batch = "class", True, 2

    def __init__(self, strength):
        self.strength, self.steps = strength, []

    def accumulate(self, step, synthetic, labels, real):
        self.steps.append(step)
        synthetic.grad = torch.full_like(synthetic, self.strength)
        return torch.zeros(())

    def state(self):
        return {}

    def restore(self, state):
        pass


def matched(strength=0.25, kind=Pull, **settings):
    prior = load_prior(PriorSettings(kind="pixel", weights=None, clamp=False), resolution=SIZE)
    objective = kind(strength)
    start = match(dataset(), prior, objective, Matching(steps=0), Context(ipc=1)).z
    objective.steps.clear()
    settings = {"momentum": 0.0, "steps": 1} | settings  # rates are auto where none is given
    return (
        match(dataset(), prior, objective, Matching(**settings), Context(ipc=1)),
        start,
        objective,
    )


@pytest.mark.parametrize("strength", [1e-4, 0.25, 1e3])
def test_a_step_moves_z_by_its_share_whatever_the_units_of_the_gradient(strength):
    made, start, _ = matched(strength)
    moved = (made.z - start).square().mean().sqrt() / start.square().mean().sqrt()
    assert float(moved) == pytest.approx(MOVE, rel=1e-4)


def test_momentum_is_allowed_for():
    made, _, _ = matched(momentum=0.75)
    plain, _, _ = matched()
    assert made.provenance["lr_z"] == pytest.approx(plain.provenance["lr_z"] / 4)


def test_trials_see_the_same_students_and_images_and_those_of_no_step_of_the_run():
    _, _, objective = matched(steps=10)  # two steps of each trial: start, 1, 3 and a third
    assert objective.steps == [*[FIRST_TRIED, FIRST_TRIED + 1] * 4, *range(10)]


class Valley(Pull):
    """Half the squared distance of all values from `centre`, times `strength`."""

    centre = torch.tensor(1.0)

    def accumulate(self, step, synthetic, labels, real):
        self.steps.append(step)
        synthetic.grad = self.strength * (synthetic.detach() - self.centre)
        return self.strength * (synthetic.detach() - self.centre).square().sum() / 2


def by_descent(factor, start, centre):
    """A rate that is tried, times the strength, and the loss of its trial of five steps."""
    moves = MOVE * start.double().square().mean() ** 0.5
    rate = factor * float(moves / (start - centre).double().square().mean() ** 0.5)
    return rate, sum((1 - rate) ** (2 * step) for step in (2, 3, 4)) / 3  # the latter half


@pytest.mark.parametrize("strength", [0.03, 1.0, 50.0])
def test_the_lowest_rate_is_taken_that_lowers_the_objective_nearly_as_far_as_the_best(strength):
    made, start, objective = matched(strength, kind=Valley, steps=25)
    tried = [by_descent(FACTOR**power, start, Valley.centre) for power in range(TRIALS)]
    losses = [loss for _, loss in tried]
    rising = next((n for n in range(1, TRIALS) if losses[n] >= losses[n - 1]), TRIALS - 1)
    enough = 1 - 0.95 * (1 - min(losses[: rising + 1]))
    wanted = next(rate for rate, loss in tried if loss <= enough)
    assert wanted > tried[0][0]  # it is not the first that is tried
    assert made.provenance["lr_z"] * strength == pytest.approx(wanted, rel=1e-3)
    assert len(objective.steps) == 5 * (1 + rising + 1) + 25


def test_rates_are_lowered_until_a_trial_stays_finite():
    start = matched(steps=0)[1]
    near = type("Near", (Valley,), {"centre": start + 3e-3})  # 15 times too large at first
    made, _, _ = matched(1.0, kind=near, steps=1000)
    assert 0 < made.provenance["lr_z"] < 2 and made.z.isfinite().all()
    nearer = type("Nearer", (Valley,), {"centre": start + 1e-9})
    with pytest.raises(RunError, match=r"no trial of distill.lr_z=auto stays finite.*Give it a n"):
        matched(1e4, kind=nearer, steps=1000)


def test_the_objective_of_a_trial_is_the_mean_of_the_latter_half_of_its_steps():
    """Of rates 0.15, 0.45 and 1.35 the second leads there; over all five steps it would not."""
    start = matched(steps=0)[1]
    near = type("Near", (Valley,), {"centre": start + 0.4 * start.square().mean().sqrt()})
    rates, losses = zip(*(by_descent(3.0**n, start, near.centre) for n in range(3)), strict=True)
    assert rates == pytest.approx((0.15, 0.45, 1.35), rel=1e-3)
    assert losses[1] <= 1 - 0.95 * (1 - losses[2]) < losses[0]
    made, _, _ = matched(1.0, kind=near, steps=25)
    assert made.provenance["lr_z"] == pytest.approx(rates[1], rel=1e-3)


def test_a_rate_is_of_the_values_and_gradients_of_all_processes(monkeypatch):
    """One like this, and one with values as large and gradients thrice as large."""
    alone, _, _ = matched()

    def reduced(accelerator, sums, reduction):
        assert reduction == "sum"
        return sums * torch.tensor([2, 2, 10]) if sums.shape == (3,) else sums

    monkeypatch.setattr(Accelerator, "reduce", reduced)
    made, _, _ = matched()
    assert made.provenance["lr_z"] == pytest.approx(alone.provenance["lr_z"] / 5**0.5)


def test_trials_leave_an_objective_that_learns_as_it_was():
    class Learns(Pull):
        learned = torch.zeros(())

        def accumulate(self, *given):
            self.learned = self.learned + 1
            return super().accumulate(*given)

        def state(self):
            return {"learned": self.learned}

        def restore(self, state):
            self.learned = state["learned"]

    _, _, objective = matched(kind=Learns, steps=10)
    assert len(objective.steps) > 10 and objective.learned == 10


def test_a_rate_falls_with_the_square_root_of_a_run_longer_than_a_hundred_steps(capsys):
    rates = [matched(steps=n)[0].provenance["lr_z"] for n in (14, 99, 100, 101, 1600)]
    assert rates == pytest.approx([rates[2] / n for n in (1, 1, 1, 1.01**0.5, 4)])
    told = [line for line in capsys.readouterr().err.splitlines() if "distill.lr_z" in line]
    assert [" divided by " in line for line in told] == [False] * 3 + [True] * 2
    assert told[-1].endswith(", and divided by 4, as the run is longer")


@pytest.mark.parametrize(("per_step", "of_an_epoch"), [(1, 3), (2, 2), (3, 1)])
def test_how_long_a_run_is_counts_for_each_class(per_step, of_an_epoch):
    """Each of three classes moves once in an epoch of so many steps."""
    short, long, longer = (
        matched(steps=n * of_an_epoch, classes_per_step=per_step)[0].provenance["lr_z"]
        for n in (50, 100, 400)
    )
    assert long == pytest.approx(short) and longer == pytest.approx(short / 2)


@pytest.mark.parametrize(("steps", "gradients"), [(0, 0), (1, 1), (9, 1)])
def test_a_run_that_is_too_short_for_trials_takes_the_first_rate(steps, gradients):
    made, start, objective = matched(kind=Valley, steps=steps)
    assert len(objective.steps) == gradients + steps
    if steps:
        rate, _ = by_descent(1.0, start, Valley.centre)
        assert made.provenance["lr_z"] * 0.25 == pytest.approx(rate, rel=1e-3)


def test_a_first_rate_that_oversteps_is_lowered():
    start = matched(steps=0)[1]
    near = type("Near", (Valley,), {"centre": start + 0.016})
    made, _, _ = matched(kind=near, steps=25)
    (_, loss), (lower, less) = (by_descent(one, start, near.centre) for one in (1, 1 / FACTOR))
    assert less < 0.05 < 0.1 < loss
    assert made.provenance["lr_z"] * 0.25 == pytest.approx(lower, rel=1e-3)


@pytest.mark.parametrize("outer", [1, 3, 10])
def test_students_of_several_steps_begin_at_the_first_gradient(outer):
    """Gradient matching at 10 images per class has 10 steps under each."""
    loops = Loops(outer=outer, inner=1, batch_syn=4)
    settings = ObjectiveSettings(kind="dc", network="convnet3@4", batch=2, loops=loops)
    objective = build_objective(settings, num_classes=3, resolution=SIZE)
    prior = load_prior(PriorSettings(kind="pixel", weights=None), resolution=SIZE)
    chosen = Matching(steps=2)
    made = match(dataset(), prior, objective, chosen, Context(ipc=1))
    assert made.provenance["lr_z"] > 0


def test_conditions_that_nothing_asks_stay_as_they_are():
    """At guidance 0 the denoiser has no class."""
    objective = build_objective(
        ObjectiveSettings(kind="dm", network="convnet3@4", batch=2), num_classes=3, resolution=SIZE
    )
    prior = small.prior(steps=2, guidance=0.0)
    start, made = (
        match(dataset(), prior, objective, Matching(steps=n), Context(ipc=1)) for n in (0, 2)
    )
    assert made.provenance["lr_c"] == 0 < made.provenance["lr_z"]
    assert (made.c == start.c).all() and not (made.z == start.z).all()


def test_without_a_gradient_a_rate_is_asked_for():
    with pytest.raises(RunError, match=r"lr_z=auto found no rate.*Give distill.lr_z one"):
        matched(strength=0.0)


def test_the_word_is_known_and_others_are_refused():
    with pytest.raises(InputError, match=r"distill.lr_z takes a number or 'auto', got 'fast'"):
        Matching(lr_z="fast")
    with pytest.raises(InputError, match="between 0 and 1e38, or auto, got -1"):
        Matching(lr_z=-1)
    with pytest.raises(InputError, match=r"lr_z=auto is a rate of SGD.*adam; give it a number"):
        Matching(lr_c=0.1, optimizer="adam")


def test_adam_needs_a_rate_of_conditions_where_there_are_some():
    settings = Matching(lr_z=0.1, optimizer="adam", steps=1)
    made, start = (
        match(dataset(), PixelPrior(SIZE), Pull(0.25), one, Context(ipc=1))
        for one in (settings, replace(settings, steps=0))
    )
    assert not (made.z == start.z).all()
    with pytest.raises(InputError, match=r"lr_c=auto is a rate of SGD.*adam; give it a number, 0"):
        match(dataset(), small.prior(steps=2), Pull(0.25), settings, Context(ipc=1))


def test_a_state_whose_steps_are_done_is_not_tried_again(tmp_path):
    context = in_folder(tmp_path / "run", Context(ipc=1))
    for settings in (Matching(steps=2, lr_z=0.1), Matching(steps=2)):
        objective = Pull(0.25)
        match(dataset(), PixelPrior(SIZE), objective, settings, context)
    assert objective.steps == []


def test_the_seconds_of_trials_belong_to_the_set_and_to_its_states(tmp_path):
    """Tables of seconds counted the steps alone, of which trials take as many again."""

    def made(folder, steps):
        context = in_folder(folder, Context(ipc=1))
        return match(dataset(), PixelPrior(SIZE), Pull(0.25), Matching(steps=steps), context)

    assert (
        "seconds"
        not in match(
            dataset(), PixelPrior(SIZE), Pull(0.25), Matching(steps=1, lr_z=0.1), Context(ipc=1)
        ).provenance
    )
    first = made(tmp_path, 10).provenance["seconds"]
    assert {*first} == {"rates"} and first["rates"] > 0
    assert made(tmp_path, 11).provenance["seconds"] == first
    steps = [{"loss": 1.0, "seconds": 2.0}, {"loss": 1.0, "seconds": 3.0}]
    facts = {"method": "matching", "seconds": {"rates": 4.0}}
    assert stage_seconds(facts, steps) == {"rates": 4.0, "matching": 5.0}
