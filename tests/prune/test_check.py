import pytest

from latentdc.errors import InputError
from latentdc.prune.check import check_prune, refuse_chance
from latentdc.recipe import Data, Prune, Scorer


@pytest.mark.parametrize(
    ("counts", "chance", "enough"),
    [([100] * 10, 0.18, 0.20), ([5, 5], 0.5, 0.56), ([1] * 1000, 0.0019, 0.0021)],
)
def test_a_scorer_near_chance_is_refused(counts, chance, enough):
    refuse_chance(enough, counts, "")
    with pytest.raises(InputError, match="its losses say nothing"):
        refuse_chance(chance, counts, "")


def test_always_naming_the_largest_class_is_chance():
    with pytest.raises(InputError, match=r"90\.00% of the images and chance is 90\.00%"):
        refuse_chance(0.9, [90, 10], "")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scorer": Scorer(network="convet3")}, "did you mean 'convnet3'"),
        ({"scorer": Scorer(network="convnet5")}, "takes images of 32 px or more"),
        ({"scorer": Scorer(weights="nowhere.safetensors")}, r"prune\.scorer\.weights: .*nowhere"),
        ({"coreset": "nowhere.parquet"}, r"prune\.coreset: there is no file nowhere"),
    ],
)
def test_what_a_recipe_names_wrongly_is_found_before_anything_is_loaded(keys, message):
    with pytest.raises(InputError, match=message):
        check_prune(Prune(keep=0.5, **keys), Data())


def test_a_scorer_that_is_not_used_is_not_checked():
    check_prune(Prune(keep=1, scorer=Scorer(network="unknown")), Data())
    check_prune(Prune(keep=0.5, score="random", scorer=Scorer(network="unknown")), Data())
