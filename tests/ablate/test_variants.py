import pytest

from latentdc import config
from latentdc.ablate.variants import UNCHANGED, VARIANTS, expand
from latentdc.distill import check
from latentdc.errors import InputError

DIGITS = config.find("digits_ipc1", "recipes")


def test_each_variant_differs_from_the_recipe_in_its_own_overrides_only():
    recipes = expand(DIGITS, ["seed=3"], check=check)
    before = config.to_yaml(recipes[UNCHANGED]).splitlines()
    for name in recipes.keys() - {UNCHANGED}:
        now = config.to_yaml(recipes[name]).splitlines()
        changed = sum(a != b for a, b in zip(before, now, strict=True))
        assert 1 <= changed <= len(VARIANTS[name]), name
        assert recipes[name].seed == 3


def test_a_variant_that_the_recipe_already_is_runs_once():
    recipes = expand(DIGITS, ["prior.skip=mean"], ["mean-skip", "x0-skip", "x0-skip"])
    assert list(recipes) == [UNCHANGED, "x0-skip"]


def test_an_unknown_variant_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="unknown variant 'no-skp'; did you mean 'no-skip'"):
        expand(DIGITS, [], ["no-skp"])


def test_what_a_variant_makes_of_a_recipe_is_refused_in_its_name():
    with pytest.raises(InputError, match=r"cell no-diffusion \(prior.kind=autoencoder\).*needs"):
        expand(DIGITS, ["prior.kind=pixel", "prior.weights=null"], ["no-diffusion"])


def test_an_ablation_pushes_nothing():
    with pytest.raises(InputError, match="latentdc push"):
        expand(DIGITS, ["push.repo=user/name"])
