"""k-center greedy: cover the features so that no image is far from a chosen one.

Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR
2018, https://arxiv.org/abs/1708.00489, algorithm 1. It begins with the image nearest to the mean,
where the paper begins with what is labelled already. A running minimum takes the place of the
distances between all pairs.
"""

import torch
from torch import Tensor

from latentdc.prune.features import Features


def kcenter(features: Features, count: int) -> Tensor:
    """(count,) positions in the order in which they are chosen; equals go to the smaller."""
    chosen = [int(features.distances(features.mean()).argmin())]
    nearest = torch.full((len(features),), torch.inf)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, features.distances(features.row(chosen[-1])))
        nearest[chosen[-1]] = -1  # also where several images are the same
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen, dtype=torch.int64)
