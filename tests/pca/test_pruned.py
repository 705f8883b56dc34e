import pytest
import torch

from latentdc.errors import InputError
from latentdc.pca.pruned import ranked_rows
from latentdc.prune.coreset import Coreset
from tests.evaluate.toys import stripes

TRAIN = stripes(30)
SCORES = torch.rand(30, generator=torch.Generator().manual_seed(0))


def coreset(rule):
    return Coreset(
        hashes=TRAIN.hashes,
        scores=SCORES,
        labels=TRAIN.labels,
        class_names=TRAIN.class_names,
        rule=rule,
        order="easy",
        keep=1.0,
        dataset="stripes",
    )


@pytest.mark.parametrize(
    ("rule", "order", "descending"),
    [("el2n", "easy", False), ("el2n", "hard", True), ("aum", "easy", True)],
)
def test_images_of_a_class_are_ranked_by_hardness_whatever_the_sign(rule, order, descending):
    best = ranked_rows(coreset(rule), TRAIN, 4, order)
    for label, rows in enumerate(best):
        members = TRAIN.members(label)
        assert torch.equal(rows, members[SCORES[members].argsort(descending=descending)[:4]])


def test_ranks_follow_the_images_when_the_data_set_is_in_another_order():
    shuffled = TRAIN.select(torch.randperm(30, generator=torch.Generator().manual_seed(1)))
    there = ranked_rows(coreset("el2n"), shuffled, 4, "easy")
    here = ranked_rows(coreset("el2n"), TRAIN, 4, "easy")
    assert torch.equal(shuffled.hashes[there], TRAIN.hashes[here])


def test_a_core_set_that_is_too_small_is_refused():
    with pytest.raises(InputError, match=r"has 10 images of class 'rows', and the mosaics take 11"):
        ranked_rows(coreset("el2n"), TRAIN, 11, "easy")
