import math

import pytest

from latentdc.errors import InputError
from latentdc.results.robustness import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)


def test_the_raw_terms_are_differences_of_shares():
    assert hard_label_recovery(0.9, 0.4) == pytest.approx(0.5)
    assert improvement_over_random(0.4, 0.6) == pytest.approx(-0.2)


def test_scores_follow_the_formula():
    alpha = (0.3 - 0.5) / 2
    expected = (math.exp(alpha) - math.exp(-1)) / (math.exp(1) - math.exp(-1))
    assert label_robust_score(0.5, 0.3) == pytest.approx(expected)
    beta = 0.5 * 0.3 + 0.5 * 0.1
    expected = (math.exp(beta) - math.exp(-1)) / (math.exp(1) - math.exp(-1))
    assert augmentation_robust_score(0.3, 0.1) == pytest.approx(expected)


def test_scores_of_accuracies_span_the_range_from_0_to_1():
    assert label_robust_score(-1, 1) == pytest.approx(1)
    assert label_robust_score(1, -1) == pytest.approx(0)
    assert augmentation_robust_score(0, 0) == pytest.approx(1 / (math.e + 1))


def test_percentage_points_are_refused():
    with pytest.raises(InputError, match=r"for 56.5 % pass 0.565"):
        hard_label_recovery(56.5, 40.0)
