"""The loss rule: how hard a classifier finds each image.

-log p_y, averaged over early or late epochs and several trainings: the static level of Xu et al.,
"Distill Gold from Massive Ores", ECCV 2024, https://arxiv.org/abs/2305.18381 (BiLP), which drops
the largest within each class. Under given weights: Moser et al., "Distill the Best, Ignore the
Rest", https://arxiv.org/abs/2411.12115.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) -log softmax(logits)[label] of (B, C) logits, precise where it is tiny.

    A trained network's loss on an easy image lies below float32's resolution near log 1, where the
    usual form rounds thousands of images to the same zero; log(1 + exp(others - own)) ranks them.
    """
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
    return F.softplus(others - logits.gather(1, own).squeeze(1))
