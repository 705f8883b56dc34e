"""Random pruning: the baseline that every rule has to beat, and seldom does below 10 %."""

import torch
from torch import Tensor

from latentdc.draws import generator


def random_scores(hashes: Tensor, seed: int) -> Tensor:
    """(N,) numbers in [0, 1), the same for an image in every copy of the data set."""
    scores = torch.empty(len(hashes))
    draws = torch.rand(len(hashes), generator=generator(seed, "prune", "random"))
    scores[hashes.argsort(stable=True)] = draws
    return scores
