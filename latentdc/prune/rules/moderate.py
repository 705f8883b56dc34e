"""Moderate core sets: neither the most typical images of a class nor the outliers.

Xia et al., "Moderate Coreset", ICLR 2023, https://openreview.net/forum?id=7D5EECbOaf9: of the
distances to the class centre, the quantiles around the median are kept.
"""

from torch import Tensor

from latentdc.prune.select import ranked


def moderate(hardness: Tensor, count: int) -> Tensor:
    """(count,) positions of the middle distances, the most central first."""
    return ranked(hardness, "middle")[:count]
