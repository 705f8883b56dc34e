import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune.selection import select

SCORES = torch.tensor([3.0, 1.0, 9.0, 8.0, 2.0, 7.0])
LABELS = torch.tensor([0, 0, 1, 1, 0, 1])


def test_easy_is_the_smallest_loss_ranked_within_each_class():
    assert select(SCORES, LABELS, keep=0.34, order="easy").tolist() == [1, 5]
    assert select(SCORES, LABELS, keep=0.67, order="easy").tolist() == [1, 3, 4, 5]


def test_hard_is_the_largest_loss():
    assert select(SCORES, LABELS, keep=0.34, order="hard").tolist() == [0, 2]


def test_every_class_keeps_at_least_one():
    assert select(SCORES, LABELS, keep=0.001, order="easy").tolist() == [1, 5]


def test_the_share_is_rounded_per_class():
    labels = torch.tensor([0] * 10 + [1] * 3)
    chosen = select(torch.zeros(13), labels, keep=0.5, order="easy")
    assert labels[chosen].bincount().tolist() == [5, 2]


@pytest.mark.parametrize("order", ["easy", "hard"])
def test_ties_go_to_the_smaller_index(order):
    assert select(torch.zeros(400), torch.zeros(400).long(), keep=0.1, order=order).tolist() == (
        list(range(40))
    )


def test_easy_and_hard_halves_are_complements():
    halves = [select(SCORES, torch.zeros(6).long(), keep=0.5, order=o) for o in ("easy", "hard")]
    assert torch.cat(halves).sort().values.tolist() == list(range(6))


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, 20])
def test_a_share_outside_the_unit_interval_is_refused(keep):
    with pytest.raises(InputError, match=r"for 20 % pass 0\.2"):
        select(SCORES, LABELS, keep=keep, order="easy")
