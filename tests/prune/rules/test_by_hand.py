"""Every rule by hand values: what it is called with here can be worked out on paper."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from latentdc.prune.features import Features
from latentdc.prune.rules.sampling import random_scores
from latentdc.prune.scorers import Classifier
from latentdc.recipe.rules import RULES

P = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
PREDICTED = {
    "logits": P.log() + torch.tensor([[3.0], [-2.0]]),  # what all classes share says nothing
    "labels": torch.tensor([1, 2]),
    "features": torch.tensor([[2.0, 2.0], [0.0, 0.0]]),  # 1 + length^2: 9 and 1
}
ERRORS = [sqrt(0.25 + 0.49 + 0.04), sqrt(0.01 + 0.01 + 0.04)]  # of p - onehot(y)

MARGINS = torch.tensor([[-1.0, 2.0, -1], [1, 2, -2], [-1, 1, -3], [2, 1, -2]])  # (epochs, images)
RECORDED = {
    "logit_margin": MARGINS,
    # Of two classes, whose p_y / p_other is exp(margin).
    "loss": torch.log1p((-MARGINS).exp()),
    "change": torch.tensor([[9.0, 9], [1, 2], [3, 2], [1, 2]]),  # the first row is not used
    "span": 3,
    "decay": 0.5,
}


def difference(margin):
    """p_y - p_other of two classes."""
    return (1 - exp(-margin)) / (1 + exp(-margin))


ONE_WAY = {"features": Features(np.array([[0.0], [1], [2], [9]], np.float32)), "count": 3}  # mean 3
TWO_WAYS = Features(np.array([[0.0, 0], [0, 2], [4, 0], [5, 0], [9, 0]], np.float32))
# On the unit circle: two neighbours that are both hard, two that are not.
PAIRS = Features(np.array([[1, 0], [0.96, 0.28], [-1, 0], [-0.96, -0.28]], np.float32))


class Pixel(nn.Module):
    """Two logits, w times the only pixel and b: the gradient at (w, b) is p - onehot of each."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, pixels):
        return torch.stack([self.w * pixels[:, 0, 0, 0], self.b.expand(len(pixels))], dim=1)


PIXELS = {  # (p - onehot) (x, 1) is (+-1/2) (x, 1), as both logits are 0
    "classifier": Classifier(Pixel(), nn.Identity()).eval(),
    "images": torch.tensor([1.0, -1]).view(2, 1, 1, 1) * torch.ones(1, 3, 1, 1),  # x: 1 and 0
    "labels": torch.tensor([0, 1]),
}

BY_HAND = {
    "loss": (PREDICTED, [-log(0.3), -log(0.8)]),
    "el2n": (PREDICTED, ERRORS),
    "grand": (PREDICTED, [3 * ERRORS[0], ERRORS[1]]),
    "grand_full": (PIXELS, [sqrt(0.5), 0.5]),
    "entropy": (PREDICTED, [1.02965301, 0.63903186]),
    "margin": (PREDICTED, [1 - 0.2, 1 - 0.7]),
    "least_confidence": (PREDICTED, [0.5, 0.2]),
    "forgetting": (RECORDED, [1, 0, 4]),  # the last one is never right
    "aum": (RECORDED, [0.25, 1.5, -2]),
    "aum_probability": (
        RECORDED,
        [sum(difference(float(m)) for m in image) / 4 for image in MARGINS.T],
    ),
    # Windows (1, 3) and (3, 1), each sqrt(2) from its mean, weigh 1/4 and 1/2.
    "tdds": (RECORDED, [0.75 * sqrt(2), 0]),
    "memorization": (
        {
            "loss": -torch.tensor([[0.9, 0.5], [0.3, 0.5]]).log(),
            "held_out": torch.tensor([[False, True], [True, False]]),
        },
        # 0.9 and 0.3 against means of 0.7 and 0.4: 0.2 seen, -0.1 not; 0.1 seen, -0.2 not.
        [0.3, 0.3],
    ),
    "distance": (  # means (0, 1) and (6, 0)
        {"features": TWO_WAYS, "labels": torch.tensor([0, 0, 1, 1, 1])},
        [1, 1, 2, 1, 3],
    ),
    "prototypes": ({"features": TWO_WAYS, "clusters": 3, "seed": 0}, [1, 1, 0.5, 0.5, 0]),
    "moderate": ({"hardness": torch.tensor([5.0, 1, 9, 3, 7]), "count": 3}, [0, 3, 4]),
    "herding": (ONE_WAY, [2, 1, 3]),  # means of 2, then 1.5 (5.5 with 9), then 4 (1 with 0)
    "kcenter": (ONE_WAY, [2, 3, 0]),  # 2 is nearest to the mean, 9 the farthest, then 0
    "ccs": (  # without the hardest, strata [0, 3), [3, 6), [6, 9] of 3, 1 and 1 images
        {
            "hardness": torch.tensor([0.0, 1, 2, 4, 9, 90]),
            "draws": torch.tensor([0.5, 0.1, 0.9, 0, 0, 0]),
            "count": 4,
            "strata": 3,
            "cutoff": 0.17,
        },
        [3, 4, 1, 0],
    ),
    # Neighbours are sqrt(0.08) apart: messages make 1.68, 1.65, 0.2 and 0.15 of the hardness, and
    # what is taken first leaves its neighbour 1.65 - 0.97 * 1.68.
    "d2": (
        {
            "features": PAIRS,
            "hardness": torch.tensor([1.0, 0.9, 0.2, 0.0]),
            "count": 2,
            "neighbours": 1,
            "gamma": 0.1,
            "cutoff": 0.0,
        },
        [0, 2],
    ),
    # 0.95 + sqrt(0.08) of the two easiest, 0.9 + 2 of the first and the third.
    "gist": (
        {
            "features": PAIRS,
            "hardness": torch.tensor([0.0, 0.1, 0.2, 1.0]),
            "count": 2,
            "diversity": 1.0,
        },
        [0, 2],
    ),
    # Both images of `ant` are as near to its mean; the second is the farther from `bee`.
    "s3": (
        {
            "features": Features(np.array([[1, 0.2], [1, -0.2], [0, 1]], np.float32)),
            "members": {"bee": torch.tensor([2]), "ant": torch.tensor([0, 1])},
            "counts": {"bee": 1, "ant": 1},
            "seed": 0,
            "groups": 8,
            "alpha": 0.4,
            "beta": 0.9,
        },
        [1, 2],
    ),
}


@pytest.mark.parametrize("name", [name for name in RULES if name != "random"])
def test_a_rule_gives_what_paper_and_pencil_give(name):
    available, expected = BY_HAND[name]
    found = RULES[name](available)
    torch.testing.assert_close(
        found.double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-6
    )


def test_the_random_rule_gives_the_draws_of_its_seed_in_the_order_of_contents():
    one, other = (random_scores(torch.tensor(hashes), 0) for hashes in ([7, -3, 5], [-3, 5, 7]))
    assert one.tolist() == [other[2], other[0], other[1]] and len(set(one.tolist())) == 3
