"""Margin between the two likeliest classes, whatever the label.

Uncertainty selection as in Coleman et al., "Selection via Proxy", ICLR 2020,
https://arxiv.org/abs/1906.11829. Of the scorer as it ends. Written as 1 - (p(1) - p(2)), so that
high is hard and the easiest images, whose margin rounds to 1, keep their ranks.
"""

from torch import Tensor

from latentdc.prune.rules.least_confidence import least_confidence


def margin(logits: Tensor) -> Tensor:
    """(B,) 1 - (p(1) - p(2)) of (B, C) logits, in [0, 1]."""
    runner_up = logits.softmax(dim=1).topk(2, dim=1).values[:, 1]
    return least_confidence(logits) + runner_up
