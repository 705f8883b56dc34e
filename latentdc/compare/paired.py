"""Two sets compared seed by seed.

A seed gives both trainings the same initial weights, so the difference of their accuracies varies
less than either, and its standard error is that of n differences: sqrt(sum (d - mean d)^2 /
((n - 1) n)). It holds what another seed would change, and neither another distillation of the set
nor another test set.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from latentdc.errors import InputError


@dataclass(frozen=True)
class Difference:
    """Of one set from another.

    Attributes:
        mean: of the accuracies' differences, in [-1, 1].
        error: standard error of that mean, None with a single seed.
        seeds: differences that were averaged.
    """

    mean: float
    error: float | None
    seeds: int


def paired_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Accuracy of `one` minus that of `other`, both by the seeds 0, 1, ...

    Raises:
        InputError: they were trained with different seeds.
    """
    if len(one) != len(other) or not one:
        raise InputError(
            f"a paired comparison needs the same seeds, got {len(one)} and {len(other)}; score "
            "both sets again with the same evaluate.seeds."
        )
    differences = [a - b for a, b in zip(one, other, strict=True)]
    count = len(differences)
    error = statistics.stdev(differences) / math.sqrt(count) if count > 1 else None
    return Difference(statistics.fmean(differences), error, count)
