"""D2: difficulty that spreads over a graph of neighbours, then chosen so that neighbours repel.

Maharana et al., "D2 Pruning: Message Passing for Balancing Diversity and Difficulty", ICLR 2024,
https://arxiv.org/abs/2310.07931. Forward: s_i += sum over the k nearest of exp(-d_ij) s_j. Choice:
the image with the highest s, whose neighbours then lose exp(-gamma d_ij) s_i. Here features have
length 1 before distances are taken, so that the kernels mean the same for every network, and the
difficulty is scaled to [0, 1]. The hardest share is left out first, as in CCS.
"""

import heapq

import torch
from torch import Tensor

from latentdc.prune.features import Features
from latentdc.prune.rules.ccs import within_cutoff


def d2(
    features: Features, hardness: Tensor, count: int, neighbours: int, gamma: float, cutoff: float
) -> Tensor:
    """(count,) positions in the order in which they are chosen; equals go to the smaller.

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
