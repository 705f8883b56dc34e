"""EL2N: the length of the error vector, a cheap stand-in for the gradient norm early in training.

Paul et al., "Deep Learning on a Data Diet", NeurIPS 2021, https://arxiv.org/abs/2107.07075,
definition 2.3: ||p(x) - onehot(y)||_2, averaged over networks (`prune.scorer.runs`) after a few
epochs (`prune.window`).
"""

import torch
from torch import Tensor

from latentdc.prune.rules.loss import cross_entropy


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) ||softmax(logits) - onehot(label)||_2 of (B, C) logits, in [0, sqrt 2].

    1 - p_y comes from the loss, which is precise where p_y rounds to 1.
    """
    own = labels.unsqueeze(1)
    error = logits.softmax(dim=1).scatter(1, own, 0)
    missing = -torch.expm1(-cross_entropy(logits, labels))
    norm: Tensor = error.scatter(1, own, missing.unsqueeze(1)).norm(dim=1)
    return norm
