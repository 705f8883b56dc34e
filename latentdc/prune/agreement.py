"""How far two rankings agree: rank correlation and common ends, class by class."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from latentdc.prune.select import class_rows, select
from latentdc.recipe import Prune

Compare = Callable[[Tensor, Tensor], float]


def within_class_spearman(a: Tensor, b: Tensor, labels: Tensor) -> float:
    """Spearman's correlation of two (N,) scores, averaged over classes; equals share a rank.

    Classes in which a score is the same for all images have none; NaN if that is all of them.
    """
    values = []
    for rows in class_rows(labels):
        if len(rows) == 0:
            continue
        both = torch.stack([ranks(a[rows]), ranks(b[rows])])
        values.append(torch.corrcoef(both)[0, 1])
    return float(torch.stack(values).nanmean())


def ranks(scores: Tensor) -> Tensor:
    """(n,) float64 ranks from 1; equal scores share the mean of theirs."""
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks: Tensor = (counts.cumsum(0) - (counts - 1) / 2).double()[place]
    return ranks


def overlap(a: Tensor, b: Tensor, labels: Tensor, keep: float) -> float:
    """Share that the lowest `keep` of each class by two (N,) scores have in common."""
    first, second = (select(x, labels, Prune(keep=keep)) for x in (a, b))
    return len(set(first.tolist()) & set(second.tolist())) / len(first)


def matrix(scores: dict[str, Tensor], compare: Compare) -> list[str]:
    """Lines of a Markdown table that compares every score with every other, each two once."""
    lines = [f"| | {' | '.join(scores)} |", "| --- |" + " ---: |" * len(scores)]
    alike = {
        frozenset(pair): f"{compare(scores[pair[0]], scores[pair[1]]):.2f}"
        for pair in combinations(scores, 2)
    }
    for name in scores:
        cells = [alike.get(frozenset((name, other)), "") for other in scores]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
