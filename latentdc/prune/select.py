"""Which samples to keep, of each class or of all, and how many; exact repeats count once."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.ranks import say
from latentdc.recipe import Prune

Order = Literal["easy", "hard", "middle"]
Choice = Callable[[Tensor, int], Tensor]  # rows (n,), count -> (count,) of them, best first


def best_first(hardness: Tensor, order: Order) -> Choice:
    """The choice of those at one end of a ranking, or in its middle, see `ranked`."""
    return lambda rows, count: rows[ranked(hardness[rows], order)[:count]]


def ranked(hardness: Tensor, order: Order) -> Tensor:
    """(n,) positions, those to keep first; of equals, the smaller position comes first.

    Hardness (n,) is finite, and high is hard: `easy` begins with the lowest, `hard` with the
    highest, `middle` with the median and goes outwards, so that its first M are M neighbours.
    """
    ranks = hardness.argsort(stable=True, descending=order == "hard")
    if order != "middle":
        return ranks
    places = torch.arange(len(ranks))
    return ranks[(2 * places - (len(ranks) - 1)).abs().argsort(stable=True)]


def ranks(scores: Tensor) -> Tensor:
    """(n,) float64 ranks from 1; equal scores share the mean of theirs."""
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks: Tensor = (counts.cumsum(0) - (counts - 1) / 2).double()[place]
    return ranks


def choose_rows(
    choice: Choice, labels: Tensor, prune: Prune, every: list[int] | None = None
) -> Tensor:
    """(M,) ascending indices that a rule chooses, class by class or of all; `every` of `most_kept`.

    A choice from all that leaves a class out gives it the first sample that the rule chooses in it,
    in place of the last chosen one that is not the only one of its class, and says so once.
    """
    sizes = torch.bincount(labels)
    if prune.scope == "class":
        budgets, rows = class_budgets(sizes.tolist(), prune, every), class_rows(labels)
        chosen = [choice(own, n) for own, n in zip(rows, budgets, strict=True) if n]
        return torch.cat(chosen).sort().values
    picked = choice(torch.arange(len(labels)), total_budget(sizes.tolist(), prune, every))
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
        say(
            "note",
            f"the global ranking would leave {len(empty)} of {len(sizes)} classes empty; each of "
            "them keeps its one best image.",
        )
    for place in range(len(kept) - 1, -1, -1):
        label = int(labels[kept[place]])
        if empty and counts[label] > 1:
            counts[label] -= 1
            members = (labels == empty.pop(0)).nonzero().squeeze(1)
            kept[place] = int(choice(members, 1)[0])
    return torch.tensor(kept, dtype=torch.int64)


def most_kept(sizes: list[int], prune: Prune, every: list[int] | None = None) -> list[int]:
    """How many of each class a budget can keep at most, which is known before anything is scored.

    `sizes` are the different samples of each class, `every` all of them, for messages.
    """
    if prune.scope == "class":
        return class_budgets(sizes, prune, every)
    total = total_budget(sizes, prune, every)
    return [min(size, total) for size in sizes]


def class_budgets(sizes: list[int], prune: Prune, every: list[int] | None = None) -> list[int]:
    """How many of each class are kept, 0 only of classes that have none; see `most_kept`.

    Raises:
        InputError: a class has fewer than `prune.count`.
    """
    if prune.count is None:
        return [_share(size, prune.keep) if size else 0 for size in sizes]
    smallest, rows = min(pair for pair in zip(sizes, every or sizes, strict=True) if pair[0])
    if prune.count > smallest:
        raise InputError(
            f"prune.count keeps {prune.count} images of each class and the smallest class has "
            f"{_of(smallest, rows)}; a count per class is between 1 and that. Where ipc and "
            "mosaic.grid decide it, as for method.kind=selection and mosaic, choose smaller ones; "
            "else prune.scope=global takes one count of all images together."
        )
    return [min(prune.count, size) for size in sizes]


def total_budget(sizes: list[int], prune: Prune, every: list[int] | None = None) -> int:
    """How many of all are kept; see `most_kept`.

    Raises:
        InputError: more than there are, or fewer than one per class.
    """
    available, classes = sum(sizes), sum(size > 0 for size in sizes)
    total = _share(available, prune.keep) if prune.count is None else prune.count
    if not classes <= total <= available:
        raise InputError(
            f"the budget is {total} of {_of(available, sum(every or sizes))} images, and with "
            f"{classes} classes it is between {classes} and {available}, so that none stays empty; "
            "change prune.keep or prune.count."
        )
    return total


def _share(members: int, keep: float) -> int:
    return max(1, round(keep * members))


def _of(different: int, rows: int) -> str:
    return str(different) if different == rows else f"{different} different ones among {rows}"
