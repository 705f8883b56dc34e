"""Rules that look at features, against brute force over all pairs."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances

from latentdc.prune import features as module
from latentdc.prune.features import Features
from latentdc.prune.rules.features import (
    d2,
    distance,
    herding,
    kcenter,
    neighbour_graph,
    prototypes,
)
from latentdc.prune.rules.sampling import ccs

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 6)).astype(np.float16)
EXACT = POINTS.astype(np.float64)
LABELS = torch.arange(40) % 3


@pytest.fixture(params=[4096, 7], ids=["one block", "many blocks"])
def features(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", request.param)
    return Features(POINTS)


def test_herding_takes_what_brings_the_mean_of_the_set_nearest_to_the_mean_of_all(features):
    mean, chosen = EXACT.mean(axis=0), []
    for k in range(15):
        rest = [i for i in range(40) if i not in chosen]
        sums = EXACT[chosen].sum(axis=0)
        chosen.append(min(rest, key=lambda i: np.linalg.norm(mean - (EXACT[i] + sums) / (k + 1))))
    assert herding(features, 15).tolist() == chosen


def test_kcenter_takes_what_is_farthest_from_all_chosen(features):
    pairs = pairwise_distances(EXACT)
    chosen = [int(np.linalg.norm(EXACT - EXACT.mean(axis=0), axis=1).argmin())]
    while len(chosen) < 15:
        chosen.append(int(pairs[:, chosen].min(axis=1).argmax()))
    assert kcenter(features, 15).tolist() == chosen


def test_greedy_rules_take_every_image_once_even_if_all_are_the_same():
    same = Features(np.ones((5, 3), np.float16))
    for rule in (herding, kcenter):
        assert sorted(rule(same, 5).tolist()) == [0, 1, 2, 3, 4]


def dense_d2(hardness, count, k, gamma, cutoff):
    """D2 with an N x N matrix and loops."""
    order = np.argsort(hardness, kind="stable")
    left = np.sort(order[: 40 - min(round(cutoff * 40), 40 - count)])
    unit = EXACT[left] / np.linalg.norm(EXACT[left], axis=1, keepdims=True)
    pairs = pairwise_distances(unit)
    np.fill_diagonal(pairs, np.inf)
    near = np.argsort(pairs, axis=1)[:, :k]
    start = (hardness[left] - hardness[left].min()) / np.ptp(hardness[left])
    score = start.copy()
    for i in range(len(left)):
        score[i] += sum(np.exp(-pairs[i, j]) * start[j] for j in near[i])
    chosen = []
    while len(chosen) < count:
        best = max((i for i in range(len(left)) if i not in chosen), key=lambda i: score[i])
        chosen.append(best)
        for j in near[best]:
            score[j] -= np.exp(-gamma * pairs[best, j]) * score[best]
    return left[chosen].tolist()


@pytest.mark.parametrize(("gamma", "cutoff"), [(0.1, 0.0), (1.0, 0.25)])
def test_d2_is_its_dense_form(features, gamma, cutoff):
    hardness = RNG.uniform(size=40)
    chosen = d2(features, torch.from_numpy(hardness), 12, 4, gamma, cutoff)
    assert chosen.tolist() == dense_d2(hardness, 12, 4, gamma, cutoff)


def test_the_graph_of_blocks_is_the_graph_of_all_pairs(features):
    graph, distances = neighbour_graph(features, 5)
    pairs = pairwise_distances(EXACT / np.linalg.norm(EXACT, axis=1, keepdims=True))
    np.fill_diagonal(pairs, np.inf)
    assert graph.tolist() == np.argsort(pairs, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(distances, np.sort(pairs, axis=1)[:, :5], rtol=1e-4)


def test_distance_is_to_the_mean_of_the_own_class(features):
    for i, score in enumerate(distance(features, LABELS).tolist()):
        own = EXACT[(LABELS == LABELS[i]).numpy()].mean(axis=0)
        assert score == pytest.approx(np.linalg.norm(EXACT[i] - own), rel=1e-4)


def test_prototypes_are_near_the_centres_of_clusters(features):
    clusters = np.concatenate([[[20.0, 0], [20.2, 0], [19, 0]], [[-20, 0], [-20.2, 0], [-23, 0]]])
    scores = prototypes(Features(clusters.astype(np.float16)), 2, 0)
    assert scores.argmax() == 5 and scores.argmin() == 0


def test_ccs_leaves_out_the_hardest_and_takes_as_much_of_each_stratum():
    hardness = torch.cat([torch.linspace(0, 0.9, 90), torch.linspace(10, 11, 10)])
    chosen = ccs(hardness, torch.rand(100), 30, 3, 0.1)
    assert chosen.max() < 90  # none of the outliers, which would have a stratum of their own
    for low in (0, 0.3):
        assert ((hardness[chosen] >= low) & (hardness[chosen] < low + 0.3)).sum() == 10
    assert len(chosen.unique()) == 30


def test_what_a_small_stratum_cannot_give_the_others_do():
    hardness = torch.tensor([0.0] * 50 + [0.5] * 48 + [1.0] * 2)
    chosen = ccs(hardness, torch.arange(100.0), 22, 3, 0.0)
    assert sorted(chosen.tolist()) == [*range(10), *range(50, 60), 98, 99]


@pytest.mark.parametrize("count", [1, 37, 95, 100])
def test_ccs_meets_every_budget_exactly(count):
    hardness = torch.rand(100, generator=torch.Generator().manual_seed(count)) ** 4
    chosen = ccs(hardness, torch.rand(100), count, 50, 0.3)
    assert len(chosen.unique()) == len(chosen) == count
