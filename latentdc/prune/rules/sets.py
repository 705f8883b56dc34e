"""Rules that look at a whole set: groups whose classes lie apart, and images that do.

`best_groups` also chooses among candidates that were sampled (`latentdc.methods.pools`).
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.prune.features import Features
from latentdc.prune.select import ranked

_CLOSEST = 1e-6  # 1 - cosine, below which two directions count as one
_SWEEPS = 5  # of `s3` over all classes, as published
_GRID = 0.1  # epsilon of `gist`
_CACHED = 256 * 2**20  # bytes of distances that `gist` keeps
_PAIRS = 5 * 10**9  # distances of `gist`, n by the budget, beyond which it is refused
_GROUPS = 10**5  # of `s3`, of all classes; each takes about a millisecond


def s3(
    features: Features,
    members: Mapping[str, Tensor],
    counts: Mapping[str, int],
    seed: int,
    groups: int,
    alpha: float,
    beta: float,
) -> Tensor:
    """(M,) positions of one random group of each class, chosen together; see `best_groups`.

    Our use of S3, whose groups are sampled from a diffusion model: every class has `groups` random
    groups of as many images as it may keep.

    Args:
        features: of all images.
        members: by class name, its positions in an order that is the same in every copy.
        counts: images that each class keeps.
        seed: of the groups.
        groups: G of each class.
        alpha: as of `best_groups`.
        beta: see there.
    """
    names = sorted(name for name, count in counts.items() if count)
    drawn = {
        name: [
            members[name][choose(len(members[name]), counts[name], generator(seed, "s3", name, g))]
            for g in range(groups)
        ]
        for name in names
    }
    centres = torch.stack(
        [torch.stack([features.select(rows).mean() for rows in drawn[name]]) for name in names]
    )
    real = torch.stack([features.select(members[name]).mean() for name in names])
    best = best_groups(centres, real, alpha=alpha, beta=beta, sweeps=_SWEEPS)
    return torch.cat([drawn[name][g] for name, g in zip(names, best.tolist(), strict=True)])


def best_groups(centres: Tensor, real: Tensor, *, alpha: float, beta: float, sweeps: int) -> Tensor:
    """(C,) the group of each class that is near to its real mean and far from the others' groups.

    S3 of Wang et al., "IMS3: Breaking Distributional Aggregation in Diffusion-Based Dataset
    Distillation", CVPR 2026, https://arxiv.org/abs/2603.13960: the choice g maximises
    alpha sum_i -log(1 - cos(c_i, r_i)) + beta sum_(i<j) log(1 - cos(c_i, c_j)) by coordinate
    ascent, class after class. As in the released code, and not the paper, the second sum has no
    1 / (C - 1), and the ascent starts at the groups nearest to their real means. It ends with a
    sweep that changes nothing; of equals the first group is taken.

    Args:
        centres: (C, G, D) mean feature of each group.
        real: (C, D) mean feature of each class's real images.
        alpha: weight of the real mean.
        beta: weight of the other classes.
        sweeps: over all classes, at most.
    """
    centres, real = F.normalize(centres.double(), dim=2), F.normalize(real.double(), dim=1)
    cosine = torch.einsum("cgd,cd->cg", centres, real)
    near, chosen, classes = -alpha * _log_gap(cosine), cosine.argmax(dim=1), range(len(real))
    for _ in range(sweeps):
        before = chosen.clone()
        for label in classes:
            gap = _log_gap(centres[label] @ centres[classes, chosen].T)  # (G, C)
            gap[:, label] = 0
            chosen[label] = (near[label] + beta * gap.sum(dim=1)).argmax()
        if torch.equal(before, chosen):
            break
    return chosen


def _log_gap(cosine: Tensor) -> Tensor:
    return (1 - cosine).clamp_min(_CLOSEST).log()


def gist(features: Features, hardness: Tensor, count: int, diversity: float) -> Tensor:
    """(count,) positions of easy images that lie apart, the easiest first.

    Fahrbach et al., "GIST: Greedy Independent Set Thresholding for Max-Min Diversification with
    Submodular Utility", NeurIPS 2025, https://arxiv.org/abs/2405.18754: maximise
    g(S) + lambda min_(u != v in S) |u - v|. For each threshold of a geometric grid the images are
    taken in the order of their utility, leaving out those nearer than the threshold to one that was
    taken; of all these sets the best counts. Here g is the mean easiness, scaled to [0, 1], so that
    one lambda serves all budgets; features have length 1; a set with fewer images than the budget
    does not count; and the grid ends at twice the largest distance from the easiest image, which no
    distance is above, so that pairs need not be compared.

    Args:
        features: of the n images.
        hardness: (n,) high is hard.
        count: budget.
        diversity: lambda.

    Raises:
        InputError: as `require_few`.
    """
    require_few(len(hardness), count)
    order = ranked(hardness, "easy")
    features, hardness = features.select(order), hardness[order]
    ease = (hardness[-1] - hardness) / (hardness[-1] - hardness[0]).clamp_min(1e-12)
    lengths = features.distances(torch.zeros_like(features.row(0))).clamp_min(1e-12)

    @lru_cache(maxsize=max(1, _CACHED // (4 * len(order))))
    def distances(place: int) -> Tensor:
        cosine = features.times(features.row(place) / lengths[place]) / lengths
        return (2 - 2 * cosine).clamp_min(0).sqrt()

    def apart(threshold: float) -> tuple[list[int], float]:
        """The greedy set, and its smallest distance."""
        nearest, taken, smallest = torch.full_like(lengths, torch.inf), [0], torch.inf
        while len(taken) < count:
            nearest = torch.minimum(nearest, distances(taken[-1]))
            allowed = nearest[taken[-1] + 1 :] >= threshold
            if not bool(allowed.any()):
                break
            taken.append(taken[-1] + 1 + int(allowed.int().argmax()))
            smallest = min(smallest, float(nearest[taken[-1]]))
        return taken, smallest

    best, value = list(range(count)), -torch.inf
    largest = 2 * float(distances(0).max())
    steps = range(int(torch.tensor(2 / _GRID).log() / torch.tensor(1 + _GRID).log()) + 1)
    for threshold in (0.0, *(largest * _GRID / 2 * (1 + _GRID) ** i for i in steps)):
        taken, smallest = apart(threshold)
        if len(taken) < count or count == 1:
            continue
        found = float(ease[taken].mean()) + diversity * smallest
        if found > value:
            best, value = taken, found
    return order[best]


def require_few_groups(groups: int, classes: int) -> None:
    """Refuse so many groups that `s3` would take hours, or more memory than there is."""
    if groups * classes > _GROUPS:
        raise InputError(
            f"s3 draws {groups:,} groups of each of {classes:,} classes, and {_GROUPS:,} in all at "
            f"most; lower prune.rules.groups to {max(1, _GROUPS // classes):,}."
        )


def require_few(images: int, count: int) -> None:
    """Refuse so many images and so large a budget that `gist` would take too long."""
    if images * count > _PAIRS:
        raise InputError(
            f"gist takes the distances of all {images:,} images to each of {count:,} chosen ones, "
            f"up to 33 times, and {_PAIRS:,} of them at most; choose from each class by itself "
            "(prune.scope=class), or keep fewer."
        )
