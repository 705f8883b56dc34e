"""Area under the margin: low where the label is likely wrong.

Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS 2020,
https://arxiv.org/abs/2001.10528, equation 1, with logits; with probabilities as Zheng et al.,
"Coverage-centric Coreset Selection", ICLR 2023, https://arxiv.org/abs/2210.15809, use it. Means
over epochs, measured at their ends.
"""

import torch
from torch import Tensor


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) z_y - max of the other logits, of (B, C) logits; positive where the label wins."""
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).amax(dim=1)
    return logits.gather(1, own).squeeze(1) - others


def aum(margins: Tensor) -> Tensor:
    """(N,) mean over epochs of (E, N) logit margins."""
    return margins.mean(dim=0)


def aum_probability(losses: Tensor, margins: Tensor) -> Tensor:
    """(N,) mean over epochs of p_y - max_{j != y} p_j, in [-1, 1].

    The largest other probability is exp(-loss - margin), which is finite however wrong the scorer.

    Args:
        losses: (E, N) -log p_y.
        margins: (E, N) logit margins, in half precision perhaps.
    """
    others = -(losses + margins).clamp_min(0)
    return ((-losses).exp() - others.exp()).mean(dim=0)
