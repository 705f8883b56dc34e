import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune.select import best_first, choose_rows, class_budgets, ranked, ranks
from latentdc.recipe import Prune

SCORES = torch.tensor([3.0, 1.0, 9.0, 8.0, 2.0, 7.0])
LABELS = torch.tensor([0, 0, 1, 1, 0, 1])


def select(scores, labels, **keys):
    prune = Prune(**keys)
    return choose_rows(best_first(scores, prune.order), labels, prune)


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


def test_ranks_count_from_1_and_equals_share_the_mean_of_theirs():
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


@pytest.mark.parametrize("order", ["easy", "hard"])
def test_ties_go_to_the_smaller_index(order):
    assert select(torch.zeros(400), torch.zeros(400).long(), keep=0.1, order=order).tolist() == (
        list(range(40))
    )


def test_easy_and_hard_halves_are_complements():
    halves = [select(SCORES, torch.zeros(6).long(), keep=0.5, order=o) for o in ("easy", "hard")]
    assert torch.cat(halves).sort().values.tolist() == list(range(6))


def test_the_middle_is_the_median_and_its_neighbours():
    scores, one = torch.tensor([50.0, 10, 40, 20, 30, 60, 70]), torch.zeros(7).long()
    assert select(scores, one, count=1, order="middle").tolist() == [2]
    assert select(scores, one, count=3, order="middle").tolist() == [0, 2, 4]
    assert ranked(torch.arange(6.0), "middle").tolist() == [2, 3, 1, 4, 0, 5]


def test_a_count_is_exact_of_each_class_or_in_all():
    assert select(SCORES, LABELS, count=2, order="easy").tolist() == [1, 3, 4, 5]
    assert select(SCORES, LABELS, count=4, scope="global", order="easy").tolist() == [0, 1, 4, 5]


def test_a_class_that_a_global_ranking_leaves_out_keeps_its_best_and_the_budget_stays_exact():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    scores = torch.tensor([1.0, 2, 3, 9, 8, 10])
    assert select(scores, labels, count=3, scope="global", order="easy").tolist() == [0, 4, 5]
    assert select(scores, labels, count=4, scope="global", order="easy").tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("seed", range(5))
def test_budgets_are_exact_and_no_class_is_empty_whatever_the_scores(seed):
    source = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(8), torch.randint(0, 8, (92,), generator=source)])
    scores = labels + 0.01 * torch.rand(100, generator=source)
    for count in (8, 9, 50, 100):
        chosen = select(scores, labels, count=count, scope="global", order="hard")
        assert len(chosen) == count and len(labels[chosen].unique()) == 8


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"count": 1, "scope": "global"}, "the budget is 1 of 6 images, and with 2 classes"),
        ({"keep": 0.01, "scope": "global"}, "the budget is 1 of 6 images"),
        ({"count": 7, "scope": "global"}, "between 2 and 6"),
        ({"count": 4}, r"the smallest class has 3.*prune\.scope=global"),
    ],
)
def test_an_impossible_budget_is_refused(keys, message):
    with pytest.raises(InputError, match=message):
        select(SCORES, LABELS, order="easy", **keys)


def test_the_smallest_class_of_a_refusal_is_one_that_has_images():
    with pytest.raises(InputError, match="the smallest class has 3"):
        class_budgets([5, 0, 3], Prune(count=4))


def test_a_rule_that_chooses_sees_each_class_alone():
    seen = []

    def first(rows, count):
        seen.append((rows.tolist(), count))
        return rows[:count]

    chosen = choose_rows(first, LABELS, Prune(keep=0.67))
    assert seen == [([0, 1, 4], 2), ([2, 3, 5], 2)] and chosen.tolist() == [0, 1, 2, 3]
