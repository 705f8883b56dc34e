"""Entropy of the prediction: how undecided the scorer is, whatever the label.

Uncertainty selection as in Coleman et al., "Selection via Proxy", ICLR 2020,
https://arxiv.org/abs/1906.11829. Of the scorer as it ends.
"""

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """(B,) -sum_c p_c log p_c of (B, C) logits, in [0, log C]."""
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
