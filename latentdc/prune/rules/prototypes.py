"""Prototypes: distance to the nearest of k-means' centres, which needs no labels.

Sorscher et al., "Beyond neural scaling laws", NeurIPS 2022, https://arxiv.org/abs/2206.14486. With
features of a self-supervised network (`prune.features`) it is the paper's score; else with those of
the scorer.
"""

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from latentdc.draws import choose, generator, key_seed
from latentdc.prune.features import Features

_AT_MOST = 100_000  # images that k-means itself sees; all are compared with its centres


def prototypes(features: Features, clusters: int, seed: int) -> Tensor:
    """(N,) distance to the nearest centre; low is prototypical, so easy."""
    some = choose(len(features), _AT_MOST, generator(seed, "prototypes")).sort().values
    sample = np.concatenate([block.numpy() for _, block in features.select(some).blocks()])
    means = KMeans(
        min(clusters, len(sample)), n_init=3, random_state=key_seed(seed, "k-means") % 2**32
    ).fit(sample)
    centres = torch.from_numpy(means.cluster_centers_).float()
    scores = torch.empty(len(features))
    for start, block in features.blocks():
        scores[start : start + len(block)] = torch.cdist(
            block, centres, compute_mode="donot_use_mm_for_euclid_dist"
        ).amin(dim=1)
    return scores
