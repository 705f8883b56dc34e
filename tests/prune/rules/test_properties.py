"""What holds of each rule whatever the numbers; budgets and directions are in the tests beside."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from latentdc.networks import new_network
from latentdc.prune.features import Features
from latentdc.prune.rules.sampling import random_scores
from latentdc.prune.scorers import Classifier
from latentdc.recipe.rules import RULES


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rule(name, **available):
    return RULES[name](available)


SEEN = {
    "logits": 3 * draws(40, 6),
    "features": draws(40, 5, seed=1),
    "labels": torch.arange(40) % 6,
}
OF_LOGITS = ["loss", "el2n", "grand", "entropy", "margin", "least_confidence"]


@pytest.mark.parametrize("name", OF_LOGITS)
def test_what_is_added_to_all_logits_changes_nothing(name):
    moved = {**SEEN, "logits": SEEN["logits"] + 5 * draws(40, 1, seed=2)}
    torch.testing.assert_close(rule(name, **moved), rule(name, **SEEN), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_an_image_is_the_easier_the_surer_its_label(name):
    right = {**SEEN, "labels": SEEN["logits"].argmax(dim=1)}
    rising = [rule(name, **{**right, "logits": gain * SEEN["logits"]}) for gain in (1, 2, 4)]
    assert (rising[0] > rising[1]).all() and (rising[1] > rising[2]).all()


def test_the_full_gradient_is_longer_than_that_of_the_last_layer_alone():
    network = new_network("convnet3@4", "a", num_classes=3, resolution=8, seed=0)
    classifier = Classifier(network, nn.Identity()).eval()
    images, labels = draws(6, 3, 8, 8), torch.arange(6) % 3
    with torch.no_grad():
        logits, features = classifier.embed(images)
        full = rule("grand_full", classifier=classifier, images=images, labels=labels)
        last = rule("grand", logits=logits, features=features, labels=labels)
    assert (full > last).all()


@pytest.mark.parametrize("name", ["aum", "aum_probability"])
def test_margins_know_no_order_of_epochs_and_have_the_sign_of_what_wins(name):
    log_p = (draws(7, 30, 4) + 4 * draws(30, 4, seed=2)).log_softmax(dim=2)
    losses, others = -log_p[..., 0], log_p[..., 1:].amax(dim=2)
    margins = log_p[..., 0] - others
    one = rule(name, loss=losses, logit_margin=margins)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rule(name, loss=losses[order], logit_margin=margins[order]), one)
    for always, sign in ((margins.amin(dim=0) > 0, 1), (margins.amax(dim=0) < 0, -1)):
        assert always.any() and (sign * one[always] > 0).all()


def test_margins_of_probabilities_stay_in_their_bounds_however_wrong_the_scorer():
    margins = torch.tensor([[-1e4, -300.0, -90, 0, 90, 1e4]])
    losses = nn.functional.softplus(-margins)  # of two classes
    for kept in (margins, margins.half().float()):
        found = rule("aum_probability", loss=losses, logit_margin=kept)
        assert found.tolist() == pytest.approx([-1, -1, -1, 0, 1, 1])


def test_what_changes_evenly_is_learned_and_what_fluctuates_is_not():
    steady = torch.linspace(0.1, 0.9, 9).expand(12, 9)
    found = rule("tdds", change=steady, span=4, decay=0.9)
    torch.testing.assert_close(found, torch.zeros(9), atol=1e-6, rtol=0)
    swing = torch.where(torch.arange(12) % 2 == 0, 1, -1).unsqueeze(1)
    for more in (0.1, 0.2):
        found = rule("tdds", change=steady + more * swing, span=4, decay=0.9)
        assert (found > more).all() and (found < 2 * more).all()


def test_a_network_that_is_better_everywhere_makes_nothing_memorised():
    p = draws(4, 20).sigmoid() / 2
    held_out = (torch.arange(4).unsqueeze(1) + torch.arange(20)) % 4 == 0
    one = rule("memorization", loss=-p.log(), held_out=held_out)
    better = p + torch.tensor([[0.4], [0.0], [0.1], [0.2]])
    torch.testing.assert_close(
        rule("memorization", loss=-better.log(), held_out=held_out), one, atol=1e-5, rtol=1e-4
    )
    known = torch.where(held_out, 0.1, 0.9)  # all is memorised
    assert (rule("memorization", loss=-known.log(), held_out=held_out) > 0.7).all()


POINTS = draws(30, 4).numpy()


@pytest.mark.parametrize("name", ["distance", "prototypes", "herding", "kcenter"])
def test_features_may_be_moved_and_turned(name):
    turn = np.linalg.qr(draws(4, 4, seed=3).numpy())[0]
    keys = {"labels": torch.arange(30) % 3, "clusters": 3, "seed": 0, "count": 8}
    one, other = (
        rule(name, features=Features(points.astype(np.float32)), **keys)
        for points in (POINTS, POINTS @ turn + 2)
    )
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_one_prototype_is_the_mean_and_one_for_each_image_the_image():
    features = Features(POINTS)
    far = rule("distance", features=features, labels=torch.zeros(30).long())
    torch.testing.assert_close(rule("prototypes", features=features, clusters=1, seed=0), far)
    own = rule("prototypes", features=features, clusters=30, seed=0)
    torch.testing.assert_close(own, torch.zeros(30), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 5, 11])
def test_moderate_images_are_neighbours_in_the_ranking_and_leave_as_many_on_either_side(count):
    hardness = draws(21)
    chosen = hardness[rule("moderate", hardness=hardness, count=count)]
    sides = [int((hardness < chosen.min()).sum()), int((hardness > chosen.max()).sum())]
    assert sides == [(21 - count) // 2] * 2


def test_kcenter_covers_at_most_twice_as_widely_as_the_best_choice():
    points = POINTS[:12]
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    for count in (2, 3, 4):
        best = min(apart[:, list(c)].min(axis=1).max() for c in combinations(range(12), count))
        chosen = rule("kcenter", features=Features(points), count=count).tolist()
        assert best <= apart[:, chosen].min(axis=1).max() <= 2 * best + 1e-6


@pytest.mark.parametrize("count", [1, 10, 27, 30])
def test_d2_takes_as_many_as_asked_and_the_hardest_only_where_nothing_else_is_left(count):
    hardness = draws(30)
    keys = {"features": Features(POINTS), "hardness": hardness, "count": count, "gamma": 0.1}
    chosen = rule("d2", **keys, neighbours=4, cutoff=0.1).tolist()
    assert len(set(chosen)) == len(chosen) == count
    hardest = set(hardness.topk(3).indices.tolist())
    assert bool(set(chosen) & hardest) == (count > 27)


def test_gist_is_greedy_by_ease_alone_or_finds_nearly_the_widest_set():
    hardness = draws(12)
    unit = POINTS[:12] / np.linalg.norm(POINTS[:12], axis=1, keepdims=True)
    apart = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    keys = {"features": Features(POINTS[:12]), "hardness": hardness}
    easiest = rule("gist", **keys, count=4, diversity=0.0)
    assert easiest.tolist() == hardness.argsort()[:4].tolist()

    def width(chosen):
        return min(apart[i, j] for i, j in combinations(chosen, 2))

    for count in (2, 3, 4):
        widest = max(width(chosen) for chosen in combinations(range(12), count))
        found = rule("gist", **keys, count=count, diversity=1e6)
        assert width(found.tolist()) >= 0.45 * widest


def gist_written_out(points, hardness, count, diversity):
    """The best greedy set over thresholds of 0 and d, 1.1 d, ... up to 20 d, no distance above."""
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    apart = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    order = np.argsort(hardness, kind="stable").tolist()
    ease = (hardness.max() - hardness) / (hardness.max() - hardness.min())
    thresholds = [0.0, 0.1 * apart[order[0]].max()]
    while thresholds[-1] * 1.1 <= 2 * apart[order[0]].max():
        thresholds.append(thresholds[-1] * 1.1)
    found = []
    for threshold in thresholds:
        taken = []
        for one in order:
            if len(taken) < count and all(apart[one, other] >= threshold for other in taken):
                taken.append(one)
        if len(taken) == count:
            least = min(apart[i, j] for i, j in combinations(taken, 2))
            found.append((ease[taken].mean() + diversity * least, taken))
    return max(found, key=lambda one: one[0])[1]


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("diversity", [0.2, 1.0, 5.0])
def test_gist_is_the_paper_written_out(count, diversity):
    for seed in range(8):
        points, hardness = draws(25, 3, seed=seed).numpy() * 3, draws(25, seed=100 + seed)
        keys = {"features": Features(points), "hardness": hardness, "count": count}
        expected = gist_written_out(points.astype(np.float64), hardness.numpy(), count, diversity)
        assert rule("gist", **keys, diversity=diversity).tolist() == expected


def test_gist_tries_thresholds_up_to_the_farthest_image():
    """The second is nearly as far from the first as the third, and a little easier."""
    angles = np.radians([0.0, 116.4, 180.0])  # distances of 1.7 and 2
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    keys = {"features": Features(points), "hardness": torch.tensor([0.0, 0.5, 0.6])}
    assert rule("gist", **keys, count=2, diversity=1.0).tolist() == [0, 2]
    assert rule("gist", **keys, count=2, diversity=0.1).tolist() == [0, 1]


def test_random_scores_are_alike_over_the_unit_interval_and_follow_their_seed():
    hashes = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    one, other = random_scores(hashes, 0), random_scores(hashes, 1)
    assert one.histc(10, 0, 1).sub(400).abs().max() < 80
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.05
