"""TDDS: how much the change of an image's predictions fluctuates over training.

Zhang et al., "Spanning Training Progress: Temporal Dual-Depth Scoring", CVPR 2024,
https://arxiv.org/abs/2311.13613, as their code computes it: K_t = sum_c |p_{t+1,c} (log p_{t+1,c} -
log p_{t,c})| between epochs; in each window k of J epochs W_k = ||K_t - mean K||_2; the score is
sum_k W_k d (1 - d)^(T - J - k), which with d = 0.9 looks at the last windows almost alone.
Predictions are measured at the ends of epochs.
"""

import math

import torch
from torch import Tensor

from latentdc.errors import InputError

FLOOR = math.log(1e-8)  # of a log-probability


def change(before: Tensor, after: Tensor) -> Tensor:
    """(B,) K between two epochs, of (B, C) log-probabilities."""
    before, after = before.clamp_min(FLOOR), after.clamp_min(FLOOR)
    return (after.exp() * (after - before)).abs().sum(dim=1)


def tdds(changes: Tensor, span: int, decay: float) -> Tensor:
    """(N,) score; high where the image is still being learned.

    Args:
        changes: (E, N) K of each epoch against the one before; row 0, without one, is not used.
        span: J, epochs in a window.
        decay: d in (0, 1).

    Raises:
        InputError: fewer epochs than a window has.
    """
    epochs = len(changes)
    if span > epochs:
        raise InputError(
            f"tdds looks at windows of prune.rules.span={span} epochs and there are {epochs}: "
            "train the scorer for more prune.scorer.epochs, or choose a smaller span."
        )
    windows = changes[1:].unfold(0, span - 1, 1)  # (E - J + 1, N, J - 1)
    spread = (windows - windows.mean(dim=2, keepdim=True)).norm(dim=2)
    age = torch.arange(epochs - span, -1, -1)
    weights = decay * (1 - decay) ** age.to(spread)
    score: Tensor = weights @ spread
    return score
