import math

import pytest
import torch

from latentdc.metrics.diversity import (
    PAIRS,
    agreement,
    feature_diversity,
    lpips_diversity,
    prediction_entropy,
)


def test_entropy_is_that_of_the_softmax():
    logits = torch.tensor(
        [[0.0, 0.0, 0.0, 0.0], [200.0, 0.0, 0.0, 0.0], [math.log(3), 0, -90, -90]]
    )
    halves = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expected = torch.tensor([math.log(4), 0.0, halves], dtype=torch.float64)
    torch.testing.assert_close(prediction_entropy(logits), expected, atol=1e-6, rtol=0)


def test_agreement_is_the_share_named_rightly():
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 3.0]])
    assert agreement(logits, torch.tensor([0, 1, 1, 1])) == 0.75


def test_feature_diversity_averages_pairs_then_classes_and_skips_single_images():
    features = torch.tensor(
        [[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [9.0, 9.0], [9.0, 9.0], [50.0, 0.0]]
    )
    labels = torch.tensor([1, 1, 1, 2, 2, 0])
    found = feature_diversity(features, labels)
    first = (5 + 1 + math.sqrt(9 + 9)) / 3
    assert found.mean == pytest.approx((first + 0) / 2)
    assert found.closest == pytest.approx((1 + 0) / 2)  # repeated images show here
    assert found.by_class == {1: pytest.approx(first), 2: 0}
    assert feature_diversity(features[3:4], labels[3:4]) is None


def test_image_distances_compare_pairs_of_a_class_alone_and_not_all_of_a_large_one():
    images = torch.arange(32.0).view(32, 1, 1, 1).expand(32, 3, 4, 4)
    labels = torch.tensor([0, 1] + [2] * 30)
    seen = []

    def distance(one, other):
        seen.extend(zip(one[:, 0, 0, 0].tolist(), other[:, 0, 0, 0].tolist(), strict=True))
        return (one - other).abs().mean(dim=(1, 2, 3))

    found = lpips_diversity(images, labels, distance)
    assert len(set(seen)) == len(seen) == PAIRS < 30 * 29 / 2
    assert all(min(pair) >= 2 for pair in seen)
    assert found.mean == pytest.approx(sum(abs(a - b) for a, b in seen) / PAIRS)
