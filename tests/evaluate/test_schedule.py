import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from latentdc.evaluate.schedule import SCHEDULES, ema_decay


def test_warmup_cosine_is_torchs_linear_then_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    warmup = LinearLR(optimizer, start_factor=1e-7, end_factor=1.0, total_iters=50)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warmup.step()
    falling = CosineAnnealingLR(optimizer, T_max=50)
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        falling.step()
    ours = [SCHEDULES["warmup-cosine"](update, 100) for update in range(100)]
    assert ours == pytest.approx(expected, abs=1e-6)


def test_cosine_falls_from_one_to_almost_zero():
    ours = [SCHEDULES["cosine"](update, 10) for update in range(10)]
    assert ours == [(1 + math.cos(math.pi * update / 10)) / 2 for update in range(10)]
    assert ours[0] == 1 and ours == sorted(ours, reverse=True)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_single_update_has_a_learning_rate(name):
    assert 0 < SCHEDULES[name](0, 1) <= 1


def test_the_average_begins_as_a_copy_then_a_plain_mean():
    assert [ema_decay(update, 0.995) for update in range(3)] == [0, 1 / 2, pytest.approx(2 / 3)]
    assert ema_decay(198, 0.995) < 0.995 == ema_decay(199, 0.995) == ema_decay(10_000, 0.995)
