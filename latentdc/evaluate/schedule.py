"""Learning rate and averaging weight as functions of progress."""

import math
from collections.abc import Callable

START = 1e-7  # share of the peak learning rate at which a warm-up begins


def constant(update: int, updates: int) -> float:
    """The peak throughout."""
    return 1.0


def cosine(update: int, updates: int) -> float:
    """A half cosine from the peak towards zero."""
    return (1 + math.cos(math.pi * update / updates)) / 2


def warmup_cosine(update: int, updates: int) -> float:
    """A line from `START` to the peak over the first half, then a half cosine."""
    half = updates // 2
    if update < half:
        return START + (1 - START) * update / half
    return cosine(update - half, updates - half)


# Share of the peak learning rate at `update` of `updates`. The keys are those of EvalProtocol.
SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": constant,
    "cosine": cosine,
    "warmup-cosine": warmup_cosine,
}


def ema_decay(update: int, most: float) -> float:
    """Decay of the averaged weights at their `update`-th update, counted from 0.

    min(most, 1 - 1 / (1 + update)): first a copy, then a plain mean, then an exponential one.
    """
    return min(most, 1 - 1 / (1 + update))
