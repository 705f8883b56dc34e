"""Rules that look at features of all images at once: distances, and sets that cover or balance."""

import heapq

import numpy as np
import torch
from torch import Tensor

from latentdc.clusters import k_means
from latentdc.draws import choose, generator
from latentdc.prune.features import Features
from latentdc.prune.rules.sampling import within_cutoff

_AT_MOST = 100_000  # images that k-means itself sees; all are compared with its centres


def distance(features: Features, labels: Tensor) -> Tensor:
    """(N,) ||f(x) - mean of f over the class||_2: how untypical an image is for its label.

    The score of Xia et al., "Moderate Coreset", ICLR 2023,
    https://openreview.net/forum?id=7D5EECbOaf9, whose own choice, the middle of it, is `moderate`.
    """
    scores = torch.empty(len(labels))
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        own = features.select(members)
        scores[members] = own.distances(own.mean())
    return scores


def prototypes(features: Features, clusters: int, seed: int) -> Tensor:
    """(N,) distance to the nearest of k-means' centres; low is prototypical, so easy.

    Sorscher et al., "Beyond neural scaling laws", NeurIPS 2022, https://arxiv.org/abs/2206.14486.
    It needs no labels. With features of a self-supervised network (`prune.features`) it is the
    paper's score; else with those of the scorer.
    """
    some = choose(len(features), _AT_MOST, generator(seed, "prototypes")).sort().values
    sample = np.concatenate([block.numpy() for _, block in features.select(some).blocks()])
    centres, _ = k_means(sample, clusters, seed)
    scores = torch.empty(len(features))
    for start, block in features.blocks():
        scores[start : start + len(block)] = torch.cdist(
            block, centres, compute_mode="donot_use_mm_for_euclid_dist"
        ).amin(dim=1)
    return scores


def herding(features: Features, count: int) -> Tensor:
    """(count,) positions of the set whose mean follows the mean of all, in the order of choice.

    Welling, "Herding Dynamical Weights to Learn", ICML 2009, as used for core sets by Rebuffi et
    al., "iCaRL", CVPR 2017, https://arxiv.org/abs/1611.07725: the next image is
    argmin_x ||mu - (f(x) + sum of the chosen f) / (k + 1)||; equals go to the smaller position.
    With g = f - mu and G the sum of the chosen g, that is argmin ||G + g||^2, so of
    ||g||^2 + 2 f.G: one running sum, and one product per choice.
    """
    mean = features.mean()
    lengths = features.distances(mean).square()
    total = torch.zeros_like(mean)
    chosen = []
    for _ in range(count):
        best = int((lengths + 2 * features.times(total)).argmin())
        lengths[best] = torch.inf
        total += features.row(best) - mean
        chosen.append(best)
    return torch.tensor(chosen, dtype=torch.int64)


def kcenter(features: Features, count: int) -> Tensor:
    """(count,) positions such that no image is far from a chosen one, in the order of choice.

    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
    ICLR 2018, https://arxiv.org/abs/1708.00489, algorithm 1 (k-center greedy). It begins with the
    image nearest to the mean, where the paper begins with what is labelled already. A running
    minimum takes the place of the distances between all pairs; equals go to the smaller position.
    """
    chosen = [int(features.distances(features.mean()).argmin())]
    nearest = torch.full((len(features),), torch.inf)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, features.distances(features.row(chosen[-1])))
        nearest[chosen[-1]] = -1  # also where several images are the same
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen, dtype=torch.int64)


def d2(
    features: Features, hardness: Tensor, count: int, neighbours: int, gamma: float, cutoff: float
) -> Tensor:
    """(count,) positions, by difficulty that spreads over a graph, then chosen so that they repel.

    Maharana et al., "D2 Pruning: Message Passing for Balancing Diversity and Difficulty", ICLR
    2024, https://arxiv.org/abs/2310.07931. Forward: s_i += sum over the k nearest of exp(-d_ij)
    s_j. Choice: the image with the highest s, whose neighbours then lose exp(-gamma d_ij) s_i.
    Here features have length 1 before distances are taken, so that the kernels mean the same for
    every network, and the difficulty is scaled to [0, 1]. The hardest share is left out first, as
    in CCS. In the order in which they are chosen; equals go to the smaller.

    Args:
        features: of the n images.
        hardness: (n,) high is hard.
        count: budget.
        neighbours: k of the graph.
        gamma: how steeply the choice's repulsion falls with distance.
        cutoff: share of the hardest left out.
    """
    left = within_cutoff(hardness, count, cutoff).sort().values
    graph, distances = neighbour_graph(features.select(left), neighbours)
    scores = hardness[left] - hardness[left].min()
    scores = scores / scores.max().clamp_min(1e-12)
    scores = scores + ((-distances).exp() * scores[graph]).sum(dim=1)
    return left[_repelling(scores, graph, (-gamma * distances).exp(), count)]


def neighbour_graph(features: Features, neighbours: int) -> tuple[Tensor, Tensor]:
    """(n, k) positions of the nearest others and (n, k) distances, of features of length 1.

    By blocks: memory grows with the number of images, not with its square.
    """
    k = min(neighbours, len(features) - 1)
    found, distances = [], []
    for start, block in features.blocks():
        near = torch.full((len(block), 0), 0.0)
        where = torch.zeros((len(block), 0), dtype=torch.int64)
        rows = torch.arange(len(block))
        for other, others in features.blocks():
            cosine = _unit(block) @ _unit(others).T
            if other == start:
                cosine[rows, rows] = -torch.inf
            near = torch.cat([near, cosine], dim=1)
            columns = torch.arange(other, other + len(others)).expand(len(block), -1)
            where = torch.cat([where, columns], dim=1)
            near, order = near.topk(min(k, near.shape[1]), dim=1)
            where = where.gather(1, order)
        found.append(where)
        distances.append((2 - 2 * near).clamp_min(0).sqrt())
    return torch.cat(found), torch.cat(distances)


def _unit(block: Tensor) -> Tensor:
    length: Tensor = block.norm(dim=1, keepdim=True)
    return block / length.clamp_min(1e-12)


def _repelling(scores: Tensor, graph: Tensor, repulsion: Tensor, count: int) -> Tensor:
    """Take the highest again and again, with a heap in which outdated entries are skipped."""
    current, edges, weights = scores.tolist(), graph.tolist(), repulsion.tolist()
    heap = [(-score, index) for index, score in enumerate(current)]
    heapq.heapify(heap)
    taken = [False] * len(current)
    chosen: list[int] = []
    while len(chosen) < count:
        score, best = heapq.heappop(heap)
        if taken[best] or -score != current[best]:
            continue
        taken[best] = True
        chosen.append(best)
        for near, weight in zip(edges[best], weights[best], strict=True):
            if not taken[near]:
                current[near] -= weight * current[best]
                heapq.heappush(heap, (-current[near], near))
    return torch.tensor(chosen, dtype=torch.int64)
