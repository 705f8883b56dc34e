"""Which samples to keep, of each class or of all."""

import sys
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from latentdc.prune.budgets import Scope, class_budgets, total_budget
from latentdc.prune.ranking import Order, ranked

Choice = Callable[[Tensor, int], Tensor]  # rows (n,), count -> (count,) of them, best first


def select(
    scores: Tensor,
    labels: Tensor,
    *,
    keep: float = 1.0,
    count: int | None = None,
    scope: Scope = "class",
    order: Order,
    hard: Literal["high", "low"] = "high",
) -> Tensor:
    """The samples at the easy or hard end of a score, or in its middle.

    Args:
        scores: (N,) floats such as losses, all finite.
        labels: (N,) class indices.
        keep: share in (0, 1]; rounded per class, and at least one sample each.
        count: exact number to keep in place of a share: of each class, or of all.
        scope: rank inside each class, so that rare and difficult classes survive, or all together.
        order: which part of the ranking to keep; of equal scores, the smaller index comes first.
        hard: whether hard samples have high or low scores.

    Returns:
        (M,) ascending indices.

    Raises:
        InputError: no such share, more than there is, or less than one for each class.
    """
    hardness = scores if hard == "high" else -scores

    def best(rows: Tensor, count: int) -> Tensor:
        return rows[ranked(hardness[rows], order)[:count]]

    return choose_rows(best, labels, keep=keep, count=count, scope=scope)


def choose_rows(
    choice: Choice, labels: Tensor, *, keep: float, count: int | None, scope: Scope
) -> Tensor:
    """(M,) ascending indices that a rule chooses, class by class or of all, as in `select`.

    A choice from all that leaves a class out gives it the first sample that the rule chooses in it,
    in place of the last chosen one that is not the only one of its class, and says so once.
    """
    sizes = torch.bincount(labels)
    if scope == "class":
        budgets = class_budgets(sizes.tolist(), keep=keep, count=count)
        rows = class_rows(labels)
        chosen = [choice(own, n) for own, n in zip(rows, budgets, strict=True) if n]
        return torch.cat(chosen).sort().values
    total = total_budget(sizes.tolist(), keep=keep, count=count)
    picked = choice(torch.arange(len(labels)), total)
    return _with_every_class(choice, picked, labels, sizes).sort().values


def class_rows(labels: Tensor) -> tuple[Tensor, ...]:
    """The ascending positions of each class's samples, in one pass for all classes."""
    rows: tuple[Tensor, ...] = labels.argsort(stable=True).split(labels.bincount().tolist())
    return rows


def _with_every_class(choice: Choice, picked: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    counts = torch.bincount(labels[picked], minlength=len(sizes))
    empty = ((counts == 0) & (sizes > 0)).nonzero().squeeze(1).tolist()
    kept = picked.tolist()
    if empty:
        print(
            f"latentdc: note: the global ranking would leave {len(empty)} of {len(sizes)} classes "
            "empty; each of them keeps its one best image.",
            file=sys.stderr,
        )
    for place in range(len(kept) - 1, -1, -1):
        label = int(labels[kept[place]])
        if empty and counts[label] > 1:
            counts[label] -= 1
            members = (labels == empty.pop(0)).nonzero().squeeze(1)
            kept[place] = int(choice(members, 1)[0])
    return torch.tensor(kept, dtype=torch.int64)
