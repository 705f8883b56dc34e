"""Rules that look at an image's predictions over the epochs of a training, or over trainings."""

import math

import torch
from torch import Tensor

from latentdc.draws import generator

_FLOOR = math.log(1e-8)  # of a log-probability
_HELD_OUT = 0.3  # share of the images that a training of `memorization` does not see


def forgetting(logit_margin: Tensor) -> Tensor:
    """(N,) how often an image that was right comes out wrong again; E where it was never right.

    Toneva et al., "An Empirical Study of Example Forgetting", ICLR 2019,
    https://arxiv.org/abs/1812.05159. Counted between the ends of epochs, when the whole set is seen
    by one network (the paper counts between the steps in which an image is trained on). An image
    that was never right is the hardest, not, as with no events, the easiest.

    Args:
        logit_margin: (E, N) logit of the label minus the largest other one; right where positive.
    """
    right = logit_margin > 0
    events = (right[:-1] & ~right[1:]).sum(dim=0).float()
    events[~right.any(dim=0)] = len(logit_margin)
    return events


def margin_of(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) z_y - max of the other logits, of (B, C) logits; positive where the label wins."""
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).amax(dim=1)
    return logits.gather(1, own).squeeze(1) - others


def aum(logit_margin: Tensor) -> Tensor:
    """(N,) area under the margin, the mean over epochs of (E, N): low where a label may be wrong.

    Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS
    2020, https://arxiv.org/abs/2001.10528, equation 1, measured at the ends of epochs.
    """
    return logit_margin.mean(dim=0)


def aum_probability(loss: Tensor, logit_margin: Tensor) -> Tensor:
    """(N,) mean over epochs of p_y - max_{j != y} p_j, in [-1, 1].

    As Zheng et al., "Coverage-centric Coreset Selection", ICLR 2023,
    https://arxiv.org/abs/2210.15809, use it. The largest other probability is exp(-loss - margin),
    which is finite however wrong the scorer.

    Args:
        loss: (E, N) -log p_y.
        logit_margin: (E, N), in half precision perhaps.
    """
    others = -(loss + logit_margin).clamp_min(0)
    return ((-loss).exp() - others.exp()).mean(dim=0)


def change_of(before: Tensor, after: Tensor) -> Tensor:
    """(B,) K of `tdds` between two epochs, of (B, C) log-probabilities."""
    before, after = before.clamp_min(_FLOOR), after.clamp_min(_FLOOR)
    return (after.exp() * (after - before)).abs().sum(dim=1)


def tdds(change: Tensor, span: int, decay: float) -> Tensor:
    """(N,) how much the change of an image's predictions fluctuates; high while it is learned.

    Zhang et al., "Spanning Training Progress: Temporal Dual-Depth Scoring", CVPR 2024,
    https://arxiv.org/abs/2311.13613, as their code computes it: K_t = sum_c |p_{t+1,c} (log
    p_{t+1,c} - log p_{t,c})| between epochs; in each window k of J epochs W_k = ||K_t - mean K||_2;
    the score is sum_k W_k d (1 - d)^(T - J - k), which with d = 0.9 looks at the last windows
    almost alone. Predictions are measured at the ends of epochs.

    Args:
        change: (E, N) K of each epoch against the one before; row 0, without one, is not used.
        span: J, epochs in a window.
        decay: d in (0, 1).
    """
    epochs = len(change)
    assert span <= epochs, "a recipe with fewer epochs is refused"
    windows = change[1:].unfold(0, span - 1, 1)  # (E - J + 1, N, J - 1)
    spread = (windows - windows.mean(dim=2, keepdim=True)).norm(dim=2)
    age = torch.arange(epochs - span, -1, -1)
    weights = decay * (1 - decay) ** age.to(spread)
    score: Tensor = weights @ spread
    return score


def memorization(loss: Tensor, held_out: Tensor) -> Tensor:
    """(N,) mean p_y of the networks that saw the image minus that of those that did not.

    Feldman and Zhang, "What Neural Networks Memorize and Why", NeurIPS 2020,
    https://arxiv.org/abs/2008.03703, equation 1: P[h_S(x) = y] - P[h_{S without x}(x) = y]. A proxy
    for the paper's thousands of trainings: a few (`prune.rules.subsets`), each without another part
    of about 30 % of the images, and p_y in place of right or wrong, which is less grainy. Each
    network's mean p_y is taken out, so that a good network does not count against the part that it
    did not see.

    Args:
        loss: (K, N) -log p_y under each network.
        held_out: (K, N) bool, whether the image was kept from the network.
    """
    p = (-loss).exp()
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
    left_out = max(1, round(_HELD_OUT * subsets))
    return (parts - torch.arange(subsets).unsqueeze(1)) % subsets < left_out
