import pytest
import torch

from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.methods.selection import best_rows, selection
from latentdc.prune.coreset import Coreset
from tests.evaluate.toys import stripes

TRAIN = stripes(30)
SCORES = torch.rand(30, generator=torch.Generator().manual_seed(0))


def coreset(rule, order="easy"):
    return Coreset(
        hashes=TRAIN.hashes,
        scores=SCORES,
        labels=TRAIN.labels,
        class_names=TRAIN.class_names,
        rule=rule,
        order=order,
        keep=1.0,
        dataset="stripes",
    )


@pytest.mark.parametrize(
    ("rule", "order", "descending"),
    [("el2n", "easy", False), ("el2n", "hard", True), ("aum", "easy", True)],
)
def test_images_of_a_class_are_ranked_by_hardness_whatever_the_sign(rule, order, descending):
    best = best_rows(coreset(rule, order), TRAIN, 4)
    for label, rows in enumerate(best):
        members = TRAIN.members(label)
        assert torch.equal(rows, members[SCORES[members].argsort(descending=descending)[:4]])


def test_ranks_follow_the_images_when_the_data_set_is_in_another_order():
    shuffled = TRAIN.select(torch.randperm(30, generator=torch.Generator().manual_seed(1)))
    there = best_rows(coreset("el2n"), shuffled, 4)
    here = best_rows(coreset("el2n"), TRAIN, 4)
    assert torch.equal(shuffled.hashes[there], TRAIN.hashes[here])


def test_a_core_set_that_is_too_small_is_refused():
    with pytest.raises(InputError, match=r"has 10 images of class 'rows', and the method takes 11"):
        best_rows(coreset("el2n"), TRAIN, 11)


def test_the_best_images_of_each_class_stand_as_they_are():
    made = selection(coreset("el2n"), None, None, Context(ipc=2, train=TRAIN))
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2] and made.grid == 1
    assert torch.equal(made.images, TRAIN.images[best_rows(coreset("el2n"), TRAIN, 2).flatten()])
    with pytest.raises(InputError, match=r"takes real images; give Context\(train=...\)"):
        selection(coreset("el2n"), None, None, Context())
