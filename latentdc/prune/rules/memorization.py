"""Memorisation: how much more a network knows of an image that it was trained on.

Feldman and Zhang, "What Neural Networks Memorize and Why", NeurIPS 2020,
https://arxiv.org/abs/2008.03703, equation 1: P[h_S(x) = y] - P[h_{S without x}(x) = y]. A proxy for
the paper's thousands of trainings: a few (`prune.rules.subsets`), each without another part of
about 30 % of the images, and p_y in place of right or wrong, which is less grainy. Each network's
mean p_y is taken out, so that a good network does not count against the part that it did not see.
"""

import torch
from torch import Tensor

from latentdc.draws import generator

HELD_OUT = 0.3


def memorization(losses: Tensor, held_out: Tensor) -> Tensor:
    """(N,) mean p_y of the networks that saw the image minus that of those that did not.

    Each p_y relative to the network's mean over all images.

    Args:
        losses: (K, N) -log p_y under each network.
        held_out: (K, N) bool, whether the image was kept from the network.
    """
    p = (-losses).exp()
    p = p - p.mean(dim=1, keepdim=True)
    seen = (p * ~held_out).sum(dim=0) / (~held_out).sum(dim=0)
    unseen = (p * held_out).sum(dim=0) / held_out.sum(dim=0)
    return seen - unseen


def held_out_parts(labels: Tensor, hashes: Tensor, subsets: int, seed: int) -> Tensor:
    """(K, N) bool: which images each of K trainings does not see; each image equally often.

    Every class is dealt into K parts, the same for an image in every copy of the data set; training
    k leaves out part k and those after it that make up about 30 %.
    """
    parts = torch.empty_like(labels)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().squeeze(1)
        members = members[hashes[members].argsort(stable=True)]
        source = generator(seed, "memorization", label)
        parts[members[torch.randperm(len(members), generator=source)]] = (
            torch.arange(len(members)) % subsets
        )
    left_out = max(1, round(HELD_OUT * subsets))
    return (parts - torch.arange(subsets).unsqueeze(1)) % subsets < left_out
