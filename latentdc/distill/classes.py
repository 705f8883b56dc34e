"""Which classes a process owns, and which of them a step moves.

Mini-batches of classes are stratified: the classes, in label order, are cut into as many runs of
neighbours as a step has classes, and a step takes one class of each run. Inside a run the order is
drawn anew for each epoch, an epoch being as many steps as meet every class once. The choice is
keyed by (seed, step) and knows nothing of processes, so that any number of them computes the same;
and because a process owns neighbours too, its share of every step is its share of the classes, to
within one at either end. Objectives of scope `class` are sums over classes, so that it does not
matter which of them meet.
"""

from functools import lru_cache

import torch

from latentdc import draws
from latentdc.errors import InputError


def own_classes(num_classes: int, process: int, processes: int) -> range:
    """The contiguous share of the classes that a process owns; shares differ by one at most."""
    share = torch.arange(num_classes).tensor_split(processes)[process]
    return range(int(share[0]), int(share[-1]) + 1)


def step_classes(num_classes: int, per_step: int | None, step: int, seed: int) -> tuple[int, ...]:
    """Ascending labels of the classes that a step moves.

    Args:
        num_classes: of the data set.
        per_step: at most so many; the last step of an epoch may have fewer. None: all, always.
        step: index of the distillation step.
        seed: of the draws.
    """
    if per_step is None:
        return tuple(range(num_classes))
    epoch, place = divmod(step, -(-num_classes // per_step))
    return _epoch(num_classes, per_step, epoch, seed)[place]


@lru_cache(maxsize=2)
def _epoch(num_classes: int, per_step: int, epoch: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """The classes of every step of an epoch, each class once."""
    source = draws.generator(seed, "classes", epoch)
    strata = torch.arange(num_classes).tensor_split(per_step)
    orders = [run[torch.randperm(len(run), generator=source)].tolist() for run in strata]
    return tuple(
        tuple(order[place] for order in orders if place < len(order))
        for place in range(-(-num_classes // per_step))
    )


def most_together(num_classes: int, per_step: int | None, processes: int) -> int:
    """Classes that a process moves in one step, at most: its own, and one of each run at most."""
    shares = [own_classes(num_classes, process, processes) for process in range(processes)]
    runs = torch.arange(num_classes).tensor_split(per_step or num_classes)
    ends = [(int(run[0]), int(run[-1])) for run in runs]
    return max(sum(own.start <= e and s < own.stop for s, e in ends) for own in shares)


def check_classes_per_step(
    per_step: int | None, *, num_classes: int, processes: int, scope: str
) -> None:
    """Refuse mini-batches of classes that cannot be.

    Raises:
        InputError: more than there are, fewer than processes, or an objective whose classes act on
            each other.
    """
    if per_step is None:
        return
    if scope == "set":
        raise InputError(
            f"distill.classes_per_step={per_step}, but the objective compares all classes at once; "
            "take null, or an objective that is a sum over classes (dm, dc without inner steps, "
            "of networks without batch norm)."
        )
    if not processes <= per_step <= num_classes:
        raise InputError(
            f"distill.classes_per_step={per_step} is between the number of processes, {processes}, "
            f"and that of classes, {num_classes}; null takes all classes in every step."
        )
