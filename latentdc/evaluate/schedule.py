"""Learning rate and averaging weight as functions of progress."""

import math

from latentdc.evaluate.protocol import EvalProtocol

START = 1e-7  # share of the peak learning rate at which `warmup-cosine` begins


def share_of_peak(protocol: EvalProtocol, update: int, updates: int) -> float:
    """Learning rate at `update` of `updates`, as a share of the peak.

    With a `warmup`, it first rises linearly from `warmup_from` to the peak; the schedule then runs
    over what is left of the budget.
    """
    rising = int(protocol.warmup * updates + 1e-6)
    if update < rising:
        return protocol.warmup_from + (1 - protocol.warmup_from) * update / rising
    update, updates = update - rising, updates - rising
    if protocol.schedule == "cosine":
        return protocol.end + (1 - protocol.end) * cosine(update, updates, protocol.zeta)
    if protocol.schedule == "linear":
        return 1 - update / (protocol.zeta * updates)
    if protocol.schedule == "multistep":
        passed = sum(update >= int(share * updates + 1e-6) for share in protocol.milestones)
        return protocol.gamma**passed
    if protocol.schedule == "warmup-cosine":
        return warmup_cosine(update, updates)
    return 1.0


def cosine(update: int, updates: int, zeta: float = 1.0) -> float:
    """(1 + cos(pi update / (zeta updates))) / 2: a half cosine, of which zeta 2 leaves half."""
    return (1 + math.cos(math.pi * update / (zeta * updates))) / 2


def warmup_cosine(update: int, updates: int) -> float:
    """A line from `START` to the peak over the first half, then a half cosine."""
    half = updates // 2
    if update < half:
        return START + (1 - START) * update / half
    return cosine(update - half, updates - half)


def ema_decay(update: int, most: float) -> float:
    """Decay of the averaged weights at their `update`-th update, counted from 0.

    min(most, 1 - 1 / (1 + update)): first a copy, then a plain mean, then an exponential one.
    """
    return min(most, 1 - 1 / (1 + update))
