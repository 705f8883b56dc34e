"""How sure a network that knows the real images is of a set's.

"Prune, Combine, Augment" (https://github.com/he-y/rethink-dataset-compression) argues with the mean
prediction entropy of a pretrained EfficientNet-B0: pruned, easy images have the lowest.
"""

import torch
from torch import Tensor


def prediction_entropy(logits: Tensor) -> Tensor:
    """Entropy -sum_k p_k log p_k of the predictions p = softmax(logits), in nats.

    Args:
        logits: (N, C).

    Returns:
        (N,) float64 from 0 (sure) to log C (every class alike).
    """
    logs = logits.double().log_softmax(dim=1)
    return -torch.xlogy(logs.exp(), logs.exp()).sum(dim=1)


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of images, in [0, 1], whose largest logit (N, C) is at their label (N,)."""
    return float((logits.argmax(dim=1) == labels).double().mean())
