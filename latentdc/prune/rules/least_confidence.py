"""Least confidence: how little the scorer believes in its own answer, whatever the label.

Uncertainty selection as in Coleman et al., "Selection via Proxy", ICLR 2020,
https://arxiv.org/abs/1906.11829. Of the scorer as it ends; of probabilities, not of logits.
"""

import torch
from torch import Tensor

from latentdc.prune.rules.loss import cross_entropy


def least_confidence(logits: Tensor) -> Tensor:
    """(B,) 1 - max_c p_c of (B, C) logits, in [0, 1), precise where p rounds to 1."""
    return -torch.expm1(-cross_entropy(logits, logits.argmax(dim=1)))
