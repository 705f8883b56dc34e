import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR

from latentdc.evaluate.training import ema_decay, share_of_peak
from tests.evaluate.toys import protocol


def shares(updates, **changes):
    some = protocol(**changes)
    return [share_of_peak(some, update, updates) for update in range(updates)]


def rates(updates, *schedulers, switch=0):
    """Learning rates of torch's schedulers, the first for `switch` updates, at a peak of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    current, found = schedulers[0](optimizer), []
    for update in range(updates):
        if update == switch and len(schedulers) > 1:
            current = schedulers[1](optimizer)
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        current.step()
    return pytest.approx(found, abs=1e-6)


def test_warmup_cosine_is_torchs_linear_then_cosine():
    expected = rates(
        100,
        lambda o: LinearLR(o, start_factor=1e-7, end_factor=1.0, total_iters=50),
        lambda o: CosineAnnealingLR(o, T_max=50),
        switch=50,
    )
    assert shares(100, schedule="warmup-cosine") == expected


def test_a_warmup_of_some_epochs_is_torchs_linear_before_a_shorter_cosine():
    expected = rates(
        100,
        lambda o: LinearLR(o, start_factor=0.01, end_factor=1.0, total_iters=5),
        lambda o: CosineAnnealingLR(o, T_max=95),
        switch=5,
    )
    assert shares(100, schedule="cosine", warmup=0.05, warmup_from=0.01) == expected


def test_cosine_falls_to_its_end_as_torchs_does():
    assert shares(40, schedule="cosine") == rates(40, lambda o: CosineAnnealingLR(o, T_max=40))
    to_end = rates(40, lambda o: CosineAnnealingLR(o, T_max=40, eta_min=0.001))
    assert shares(40, schedule="cosine", end=0.001) == to_end


def test_a_cosine_or_line_of_zeta_two_ends_at_half():
    ours = shares(300, schedule="cosine", zeta=2)
    assert ours == [(1 + math.cos(math.pi * e / 600)) / 2 for e in range(300)]
    assert ours[-1] == pytest.approx(0.5, abs=0.01)
    assert shares(4, schedule="linear", zeta=2) == [1, 7 / 8, 6 / 8, 5 / 8]
    assert shares(4, schedule="linear") == [1, 3 / 4, 2 / 4, 1 / 4]


@pytest.mark.parametrize("epochs", [300, 1500, 2000, 3000])
def test_milestones_are_those_of_the_released_code(epochs):
    listed = MultiStepLR, [2 * epochs // 3, 5 * epochs // 6]
    ours = shares(epochs, schedule="multistep", milestones=[0.66667, 0.83334], gamma=0.2)
    assert ours == rates(epochs, lambda o: listed[0](o, listed[1], gamma=0.2))
    edc = shares(1000, schedule="multistep", milestones=[0.8, 0.9, 0.95], gamma=0.5)
    assert [edc[e] for e in (799, 800, 899, 900, 949, 950)] == [1, 0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "warmup-cosine"])
def test_a_single_update_has_a_learning_rate(name):
    assert 0 < shares(1, schedule=name)[0] <= 1


def test_the_average_begins_as_a_copy_then_a_plain_mean():
    assert [ema_decay(update, 0.995) for update in range(3)] == [0, 1 / 2, pytest.approx(2 / 3)]
    assert ema_decay(198, 0.995) < 0.995 == ema_decay(199, 0.995) == ema_decay(10_000, 0.995)
