import pytest

from latentdc.errors import InputError
from latentdc.prune.scorers import refuse_chance


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
