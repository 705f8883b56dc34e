"""How many samples to keep, of each class or of all; exact repeats count once."""

from typing import Literal

from latentdc.errors import InputError

Scope = Literal["class", "global"]


def class_budgets(
    sizes: list[int],
    *,
    keep: float = 1.0,
    count: int | None = None,
    rows: list[int] | None = None,
) -> list[int]:
    """How many of each class are kept; 0 only of classes that have none.

    Args:
        sizes: different samples of each class.
        keep: share of each.
        count: exact number in its place.
        rows: samples of each class, repeats among them, for messages.

    Raises:
        InputError: a share outside (0, 1], or a class with fewer than `count`.
    """
    if count is None:
        return [kept_count(size, keep) if size else 0 for size in sizes]
    smallest, every = min(pair for pair in zip(sizes, rows or sizes, strict=True) if pair[0])
    if not 1 <= count <= smallest:
        raise InputError(
            f"prune.count keeps {count} images of each class and the smallest class has "
            f"{_of(smallest, every)}; a count per class is between 1 and that. For one count of "
            "all images together set prune.scope=global."
        )
    return [min(count, size) for size in sizes]


def total_budget(
    sizes: list[int],
    *,
    keep: float = 1.0,
    count: int | None = None,
    rows: list[int] | None = None,
) -> int:
    """How many of all are kept; arguments as of `class_budgets`.

    Raises:
        InputError: a share outside (0, 1], more than there are, or fewer than one per class.
    """
    available, classes = sum(sizes), sum(size > 0 for size in sizes)
    total = kept_count(available, keep) if count is None else count
    if not classes <= total <= available:
        raise InputError(
            f"the budget is {total} of {_of(available, sum(rows or sizes))} images, and with "
            f"{classes} classes it is between {classes} and {available}, so that none stays empty; "
            "change prune.keep or prune.count."
        )
    return total


def most_kept(
    sizes: list[int],
    *,
    keep: float,
    count: int | None,
    scope: Scope,
    rows: list[int] | None = None,
) -> list[int]:
    """How many of each class a budget can keep at most, which is known before anything is scored.

    Raises:
        InputError: as `class_budgets` and `total_budget`.
    """
    if scope == "class":
        return class_budgets(sizes, keep=keep, count=count, rows=rows)
    total = total_budget(sizes, keep=keep, count=count, rows=rows)
    return [min(size, total) for size in sizes]


def _of(different: int, rows: int) -> str:
    return str(different) if different == rows else f"{different} different ones among {rows}"


def kept_count(members: int, keep: float) -> int:
    """How many of `members` images a share keeps."""
    if not 0 < keep <= 1:
        raise InputError(f"keep is a share in (0, 1], got {keep}; for 20 % pass 0.2.")
    return max(1, round(keep * members))


def saved_classes(sizes: list[int], keep: float) -> int:
    """How many classes the share alone would leave empty."""
    return sum(round(keep * size) < 1 for size in sizes if size)
