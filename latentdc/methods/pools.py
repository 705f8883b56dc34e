"""Choosing from a pool: which candidates of a class stay, where there are more than are wanted.

A pool is made by a sampler, or is any set of images. Candidates are given by class name, so that no
choice depends on the order of the classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.images import Images, fetch, forward_batch
from latentdc.prune.rules.predictions import cross_entropy
from latentdc.prune.rules.sets import best_groups
from latentdc.prune.scorers import AT_ONCE, Classifier
from latentdc.recipe import Select

DRAWN = 2**22  # numbers that are drawn at once
NONE = torch.empty(0)


@dataclass(frozen=True)
class Candidates:
    """What is known of the candidates of one class, in the order in which they were made.

    Groups are `ipc` neighbours: of n candidates group g has g ipc to (g + 1) ipc - 1, and what is
    left over belongs to none. What the choice does not ask for is empty.

    Attributes:
        count: n.
        loss: (n,) -log p_y by a classifier of the real images.
        right: (n,) whether that classifier names y first.
        student_loss: (n,) -log p_y by a student of the images that there are so far.
        points: (n, D) where they lie: features of the classifier, or flat latents.
        mean: (D,) of the real images of the class, there.
        std: (D,) of these.
        anchors: (ipc, D) points there that each want a candidate of their own; none take the mean.
    """

    count: int
    loss: Tensor = NONE
    right: Tensor = NONE
    student_loss: Tensor = NONE
    points: Tensor = NONE
    mean: Tensor = NONE
    std: Tensor = NONE
    anchors: Tensor = NONE


def select(
    pool: Mapping[str, Candidates], ipc: int, settings: Select, seed: int = 0
) -> dict[str, Tensor]:
    """Positions (ipc,) of the candidates that stay, by class name, the best first where one is.

    The pool has at least `ipc` candidates of each class, and all classes where `centroids` choose.
    Random choices are keyed by class name.
    """
    if settings.kind == "centroids":
        return _by_centroids(pool, ipc, settings)
    return {name: _of_class(name, one, ipc, settings, seed) for name, one in pool.items()}


def _of_class(name: str, one: Candidates, ipc: int, settings: Select, seed: int) -> Tensor:
    kind = settings.kind
    if kind is None:
        return torch.arange(ipc)
    if kind == "random":
        return choose(one.count, ipc, generator(seed, "pool", name))
    if kind == "confidence":
        return most_confident(one.loss, one.right, ipc, order=settings.order)
    if kind == "learnability":
        return most_learnable(one.student_loss, one.loss, ipc, teacher=settings.teacher)
    if kind == "nearest":
        return nearest_to(one.points, one.anchors if len(one.anchors) else one.mean, ipc)
    assert kind == "moments", f"select.kind={kind} has no case here"
    groups = _in_groups(one.points, ipc)
    offset = moments_offset(groups, one.mean, one.std, skew=settings.skew)
    return _rows_of(int(offset.argmin()), ipc)


def _by_centroids(pool: Mapping[str, Candidates], ipc: int, settings: Select) -> dict[str, Tensor]:
    """Classes have as many groups as the one with the fewest candidates."""
    names = sorted(pool)
    count = min(one.count for one in pool.values()) // ipc
    centres = [_in_groups(pool[name].points, ipc)[:count].mean(dim=1) for name in names]
    best = best_groups(
        torch.stack(centres),
        torch.stack([pool[name].mean for name in names]),
        alpha=settings.alpha,
        beta=settings.beta,
        sweeps=settings.sweeps,
    )
    return {name: _rows_of(group, ipc) for name, group in zip(names, best.tolist(), strict=True)}


def _in_groups(points: Tensor, ipc: int) -> Tensor:
    """(n, ...) candidates -> (G, ipc, D) neighbours, without those that are left over."""
    whole = points[: len(points) // ipc * ipc].flatten(1)
    return whole.view(-1, ipc, whole.shape[1])


def _rows_of(group: int, ipc: int) -> Tensor:
    """(ipc,) positions of a group's candidates."""
    return torch.arange(group * ipc, (group + 1) * ipc)


def most_confident(loss: Tensor, right: Tensor, count: int, *, order: str) -> Tensor:
    """(count,) candidates that a classifier names rightly, the most (or least) confident first.

    Wang et al., "CaO2: Rectifying Inconsistencies in Diffusion-Based Dataset Distillation", ICCV
    2025, https://arxiv.org/abs/2506.22637. Where they are too few, wrong ones fill up, the most
    probable first. The loss (n,) is -log p_y, and `right` (n,) whether y is named first.
    """
    ranks = loss.argsort(stable=True)
    own = ranks[right[ranks]]
    own = own if order == "most" else own.flip(0)
    return torch.cat([own, ranks[~right[ranks]]])[:count]


def most_learnable(
    student_loss: Tensor, teacher_loss: Tensor, count: int, *, teacher: float
) -> Tensor:
    """(count,) for each slot the candidate with the highest student CE - w teacher CE.

    Chan-Santiago and Shah, "Learnability-Guided Diffusion for Dataset Distillation", CVPR 2026,
    https://arxiv.org/abs/2604.00519: what the student of the images so far does not know yet, but a
    classifier of real images does. The candidates of slot k are the k-th of each group. Losses (n,)
    are -log p_y, of the student and of that classifier; w is `teacher`.
    """
    score = _in_groups((student_loss - teacher * teacher_loss)[:, None], count).squeeze(2)
    return score.argmax(dim=0) * count + torch.arange(count)


def nearest_to(points: Tensor, to: Tensor, count: int) -> Tensor:
    """(count,) candidates (n, ...) nearest to a point (D,), or one for each of `count` anchors.

    Anchors (count, D) get different candidates, so that the distances are smallest in sum, in the
    anchors' order.
    """
    flat, to = points.flatten(start_dim=1).double(), to.double()
    if to.ndim == 1:
        ranks: Tensor = (flat - to).norm(dim=1).argsort(stable=True)
        return ranks[:count]
    # It comes with scikit-learn, and takes a while.
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    chosen: Tensor = torch.from_numpy(linear_sum_assignment(torch.cdist(to, flat).numpy())[1])
    return chosen


def moments_offset(groups: Tensor, mean: Tensor, std: Tensor, *, skew: float) -> Tensor:
    """(G,) how badly the moments of groups (G, K, D) fit the mean and std (D,) of their class.

    Zhao et al., "Taming Diffusion for Dataset Distillation with High Representativeness" (D3HR),
    ICML 2025, https://arxiv.org/abs/2505.18399:

    ||mean - mu|| + ||std - sigma|| + w ||skewness||, w = 0.1.

    As in the released code the skewness is one sample's, over its D features, in place of one
    feature's over the samples. A group of one image has no std, and the second term is 0.
    """
    offset: Tensor = (groups.mean(dim=1) - mean).norm(dim=1)
    if groups.shape[1] > 1:
        offset = offset + (groups.std(dim=1) - std).norm(dim=1)
    offset += skew * skewness(groups).norm(dim=1)
    return offset


def skewness(samples: Tensor) -> Tensor:
    """(..., D) -> (...) of each sample, over its features."""
    centred = samples - samples.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1).clamp_min(1e-12)
    return centred.pow(3).mean(dim=-1) / variance.pow(1.5)


def gaussian_group(
    mean: Tensor, std: Tensor, ipc: int, choice: Select, source: torch.Generator
) -> Tensor:
    """(ipc, ...) of many groups drawn from N(mean, std^2), the one that fits best (D3HR).

    Ours: halves of groups are drawn on the CPU, and each first half is joined with each second one,
    so that 100,000 groups take the draws of 317 and their moments are sums of two. D3HR draws each
    group anew. A group of one image has no halves. `mean` and `std` are (...) of a class, on the
    device that shall compute.
    """
    groups = choice.groups
    mu, sigma = mean.flatten(), std.flatten()
    firsts = groups if ipc == 1 else math.isqrt(groups - 1) + 1

    def draw(halves: int, size: int) -> Tensor:
        return mu + sigma * torch.randn(halves, size, len(mu), generator=source).to(mu)

    second = draw(-(-groups // firsts), ipc // 2)
    best, least = mu.expand(ipc, -1), torch.inf
    for some in torch.arange(firsts).split(max(1, DRAWN // (ipc * len(mu)))):
        first = draw(len(some), ipc - ipc // 2)
        offset = joined_offset(first, second, mu, sigma, skew=choice.skew)
        if float(offset.min()) < least:
            one, other = divmod(int(offset.argmin()), len(second))
            best, least = torch.cat([first[one], second[other]]), float(offset.min())
    return best.view(ipc, *mean.shape)


def joined_offset(
    first: Tensor, second: Tensor, mean: Tensor, std: Tensor, *, skew: float
) -> Tensor:
    """(F, S) `moments_offset` of every group of a first half (F, K, D) and a second (S, K', D)."""
    count, halves = first.shape[1] + second.shape[1], (first - mean, second - mean)
    one, other = (half.sum(dim=1) for half in halves)
    squares, others = (half.square().sum(dim=1) for half in halves)
    lengths = [total.square().sum(dim=1) for total in (one, other)]
    length = lengths[0][:, None] + lengths[1] + 2 * one @ other.T
    offset = length.clamp_min(0).sqrt() / count
    if count > 1:
        for place, (total, square) in enumerate(zip(one, squares, strict=True)):
            variance = (square + others - (total + other).square() / count) / (count - 1)
            offset[place] += (variance.clamp_min(0).sqrt() - std).norm(dim=1)
    skews = [skewness(half).square().sum(dim=1) for half in (first, second)]
    offset += skew * (skews[0][:, None] + skews[1]).sqrt()
    return offset


def judged(
    choice: Select,
    classifier: Classifier,
    student: Classifier | None,
    images: Images,
    label: int,
    real: Dataset,
    rows: Tensor,
) -> Candidates:
    """What networks make of a class's candidates, as far as a choice asks.

    Args:
        choice: that asks a classifier.
        classifier: of the real images.
        student: of the images so far, for `learnability`.
        images: of the candidates; see `classify`.
        label: of the class.
        real: the real images.
        rows: (n,) of those of the class, whose features are compared.
    """
    found = classify(classifier, images, label)
    if student is not None:
        found = replace(found, student_loss=classify(student, images, label).loss)
    if choice.compares_points:
        points = classify(classifier, real.images[rows], label).points
        found = replace(found, mean=points.mean(dim=0), std=points.std(dim=0, correction=0))
    return found


@torch.no_grad()
def classify(classifier: Classifier, images: Images, label: int) -> Candidates:
    """What a classifier in eval mode says of a class's candidates: loss, whether right, features.

    `images` are (n, 3, H, W) uint8 levels, or floats in [-1, 1]; or vectors. The features are
    points; all is on the CPU.
    """
    device = next(iter(classifier.parameters()), torch.empty(0)).device
    losses, right, features = [], [], []
    for rows in torch.arange(len(images)).split(forward_batch(images, AT_ONCE, device)):
        logits, seen = classifier.embed(fetch(images, rows, device))
        labels = torch.full((len(rows),), label, device=device)
        losses.append(cross_entropy(logits.float(), labels).cpu())
        right.append((logits.argmax(dim=1) == labels).cpu())
        features.append(seen.float().cpu())
    return Candidates(len(images), torch.cat(losses), torch.cat(right), points=torch.cat(features))
