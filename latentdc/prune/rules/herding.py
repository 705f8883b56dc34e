"""Herding: the set whose mean follows the mean of all.

Welling, "Herding Dynamical Weights to Learn", ICML 2009, as used for core sets by Rebuffi et al.,
"iCaRL", CVPR 2017, https://arxiv.org/abs/1611.07725: the next image is
argmin_x ||mu - (f(x) + sum of the chosen f) / (k + 1)||.
"""

import torch
from torch import Tensor

from latentdc.prune.features import Features


def herding(features: Features, count: int) -> Tensor:
    """(count,) positions in the order in which they are chosen; equals go to the smaller.

    With g = f - mu and G the sum of the chosen g, the next one is argmin ||G + g||^2, that is of
    ||g||^2 + 2 f.G: one running sum, and one product per choice.
    """
    mean = features.mean()
    lengths = features.distances(mean).square()
    total = torch.zeros_like(mean)
    chosen = []
    for _ in range(count):
        best = int((lengths + 2 * features.times(total)).argmin())
        lengths[best] = torch.inf
        total += features.row(best) - mean
        chosen.append(best)
    return torch.tensor(chosen, dtype=torch.int64)
