"""Distance to the centre of the class: how untypical an image is for its label.

The score of Xia et al., "Moderate Coreset", ICLR 2023, https://openreview.net/forum?id=7D5EECbOaf9,
whose own choice, the middle of it, is the rule `moderate`.
"""

import torch
from torch import Tensor

from latentdc.prune.features import Features


def distance(features: Features, labels: Tensor) -> Tensor:
    """(N,) ||f(x) - mean of f over the class||_2."""
    scores = torch.empty(len(labels))
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        own = features.select(members)
        scores[members] = own.distances(own.mean())
    return scores
