"""How far two rankings agree: rank correlation and common ends, class by class."""

from collections.abc import Callable

import torch
from torch import Tensor

from latentdc.prune.selection import select

Compare = Callable[[Tensor, Tensor], float]


def within_class_spearman(a: Tensor, b: Tensor, labels: Tensor) -> float:
    """Spearman's correlation of two (N,) scores, averaged over classes; equals share a rank.

    NaN where a score is the same for all images of a class.
    """
    values = []
    for label in labels.unique():
        members = labels == label
        ranks = torch.stack([_ranks(a[members]), _ranks(b[members])])
        values.append(torch.corrcoef(ranks)[0, 1])
    return float(torch.stack(values).mean())


def _ranks(scores: Tensor) -> Tensor:
    """(n,) float64 ranks; equal scores share the mean of theirs."""
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks: Tensor = (counts.cumsum(0) - (counts - 1) / 2).double()[place]
    return ranks


def overlap(a: Tensor, b: Tensor, labels: Tensor, keep: float) -> float:
    """Share that the lowest `keep` of each class by two (N,) scores have in common."""
    first, second = (select(x, labels, keep=keep, order="easy") for x in (a, b))
    return len(set(first.tolist()) & set(second.tolist())) / len(first)


def matrix(scores: dict[str, Tensor], compare: Compare) -> list[str]:
    """Lines of a Markdown table that compares every score with every other."""
    lines = [f"| | {' | '.join(scores)} |", "| --- |" + " ---: |" * len(scores)]
    for name, one in scores.items():
        cells = ["" if name == other else f"{compare(one, b):.2f}" for other, b in scores.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
