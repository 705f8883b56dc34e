"""Rules that take images at random, from the middle, or as many of every hardness."""

import torch
from torch import Tensor

from latentdc.draws import generator
from latentdc.prune.select import ranked


def random_scores(hashes: Tensor, seed: int) -> Tensor:
    """(N,) numbers in [0, 1), the same for an image in every copy of the data set.

    The baseline that every rule has to beat, and seldom does below 10 %.
    """
    scores = torch.empty(len(hashes))
    draws = torch.rand(len(hashes), generator=generator(seed, "prune", "random"))
    scores[hashes.argsort(stable=True)] = draws
    return scores


def moderate(hardness: Tensor, count: int) -> Tensor:
    """(count,) positions of the middle distances, the most central first.

    Xia et al., "Moderate Coreset", ICLR 2023, https://openreview.net/forum?id=7D5EECbOaf9: of the
    distances to the class centre, the quantiles around the median are kept.
    """
    return ranked(hardness, "middle")[:count]


def ccs(hardness: Tensor, draws: Tensor, count: int, strata: int, cutoff: float) -> Tensor:
    """(count,) positions, without the hardest, from strata of equal width with equal budgets.

    Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023,
    https://arxiv.org/abs/2210.15809, algorithm 1. The paper drops the share beta with the lowest
    AUM; here it is the hardest share of whatever score it stratifies (`prune.rules.base`). A
    stratum with fewer images than its budget gives all, and the others share the rest.

    Args:
        hardness: (n,) high is hard.
        draws: (n,) random numbers; inside a stratum the smallest are taken.
        count: budget.
        strata: number of intervals of hardness.
        cutoff: beta, share of the hardest left out, less where the budget needs them.
    """
    left = within_cutoff(hardness, count, cutoff)
    low, high = float(hardness[left].min()), float(hardness[left].max())
    width = (high - low) / strata or 1.0
    stratum = ((hardness[left] - low) / width).long().clamp(max=strata - 1)
    members = [left[stratum == s] for s in stratum.unique()]
    members.sort(key=len)
    chosen: list[Tensor] = []
    for index, some in enumerate(members):
        budget = (count - sum(map(len, chosen))) // (len(members) - index)
        chosen.append(some[draws[some].argsort(stable=True)][:budget])
    return torch.cat(chosen)


def within_cutoff(hardness: Tensor, count: int, cutoff: float) -> Tensor:
    """Positions without the hardest share, easiest first; at least `count`."""
    left_out = min(round(cutoff * len(hardness)), len(hardness) - count)
    return ranked(hardness, "easy")[: len(hardness) - left_out]
