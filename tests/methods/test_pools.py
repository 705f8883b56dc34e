"""Each choice by hand values, and what holds for all of them."""

import dataclasses
import itertools

import pytest
import torch

from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.methods import pools
from latentdc.methods.pools import Candidates, select
from latentdc.prune.rules.sets import best_groups
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Select

NUMBERS = {"alpha": 0.4, "beta": 0.9, "sweeps": 100}


def normal(*shape):
    return torch.randn(shape, generator=generator(0, "pool", *shape))


def candidates(n, seed=0):
    """All that any kind asks for."""
    source = generator(seed, "candidates")
    points = torch.randn(n, 3, generator=source)
    loss, student = torch.rand(2, n, generator=source)
    mean, std = torch.randn(2, 3, generator=source)
    return Candidates(n, loss, loss < 0.5, student, points, mean, std.abs())


KINDS = [None, "random", "confidence", "centroids", "moments", "learnability", "nearest"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_chooses_different_candidates_by_the_name_of_the_class(kind):
    pool = {name: candidates(15, seed) for seed, name in enumerate(["bee", "ant", "cat"])}
    found = select(pool, 5, Select(kind=kind))
    for rows in found.values():
        assert len(set(rows.tolist())) == 5 and 0 <= int(rows.min()) and int(rows.max()) < 15
    turned = select(dict(reversed(pool.items())), 5, Select(kind=kind))
    assert all(torch.equal(rows, turned[name]) for name, rows in found.items())
    if kind in ("random", "centroids"):
        return
    alone = select({"ant": pool["ant"]}, 5, Select(kind=kind))
    assert torch.equal(alone["ant"], found["ant"])


def test_random_choices_differ_by_class_and_seed():
    pool = {"ant": candidates(40), "bee": candidates(40)}
    here = select(pool, 5, Select(kind="random"))
    other = select(pool, 5, Select(kind="random"), seed=1)
    assert len({tuple(rows.tolist()) for rows in (*here.values(), *other.values())}) == 4


def test_the_confident_right_ones_come_first_and_wrong_ones_fill_up():
    loss = torch.tensor([0.3, 0.1, 0.9, 0.2, 0.05, 2.0])
    right = torch.tensor([True, True, False, True, False, False])
    assert pools.most_confident(loss, right, 2, order="most").tolist() == [1, 3]
    assert pools.most_confident(loss, right, 2, order="least").tolist() == [0, 3]
    assert pools.most_confident(loss, right, 5, order="most").tolist() == [1, 3, 0, 4, 2]
    assert pools.most_confident(loss, right, 5, order="least").tolist() == [0, 3, 1, 4, 2]


def test_each_slot_keeps_what_the_student_lacks_and_the_teacher_knows():
    student = torch.tensor([1.0, 1.0, 2.0, 0.5, 3.0, 9.0, 8.0])
    teacher = torch.tensor([0.0, 4.0, 0.0, 0.0, 6.0, 20.0, 0.0])
    # of slots 0 to 2: 1 against 0.5, -1 against 0, 2 against -1; the seventh is left over
    assert pools.most_learnable(student, teacher, 3, teacher=0.5).tolist() == [0, 4, 2]


def test_nearest_takes_the_mean_or_one_for_each_anchor():
    points = torch.tensor([[0.0], [1.0], [2.0], [5.0], [9.0]])
    assert pools.nearest_to(points, torch.tensor([1.8]), 3).tolist() == [2, 1, 0]
    # both anchors want 2.0; the second has the smaller loss in giving way to 5.0
    assert pools.nearest_to(points, torch.tensor([[2.0], [2.4]]), 2).tolist() == [2, 1]
    assert pools.nearest_to(points, torch.tensor([[8.0], [0.4]]), 2).tolist() == [4, 0]


def test_moments_are_the_papers_with_the_skewness_over_features():
    groups, mean, std = normal(4, 3, 6), normal(6), normal(6).abs()
    found = pools.moments_offset(groups, mean, std, skew=0.1)
    for group, value in zip(groups, found, strict=True):
        skews = [((x - x.mean()) ** 3).mean() / ((x - x.mean()) ** 2).mean() ** 1.5 for x in group]
        written = (group.mean(0) - mean).norm() + (group.std(0) - std).norm()
        torch.testing.assert_close(value, written + 0.1 * torch.stack(skews).norm())
    one = pools.moments_offset(groups[:, :1], mean, std, skew=0.0)
    torch.testing.assert_close(one, (groups[:, 0] - mean).norm(dim=1))


def test_the_group_with_the_best_moments_is_chosen_whole():
    ant = candidates(10)
    fit = ant.points[5:]
    ant = dataclasses.replace(ant, mean=fit.mean(0), std=fit.std(0))
    found = select({"ant": ant}, 5, Select(kind="moments", skew=0.0))
    assert found["ant"].tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_groups_of_joined_halves_have_the_moments_of_the_whole_groups(count):
    first, second = normal(4, count - count // 2, 6), normal(3, count // 2, 6)
    mean, std = normal(6), normal(6).abs()
    found = pools.joined_offset(first, second, mean, std, skew=0.1)
    for one, half in enumerate(first):
        groups = torch.stack([torch.cat([half, other]) for other in second])
        wanted = pools.moments_offset(groups, mean, std, skew=0.1)
        torch.testing.assert_close(found[one], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 4])
def test_the_drawn_group_fits_better_than_most(count):
    mean, std = normal(2, 3), normal(2, 3).abs()
    source = generator(0, "groups")
    found = pools.gaussian_group(mean, std, count, Select(groups=200), source)
    assert found.shape == (count, 2, 3)
    others = mean + std * torch.randn(200, count, 2, 3, generator=generator(1, "others"))
    offset = pools.moments_offset(
        torch.cat([found[None], others]).flatten(2), mean.flatten(), std.flatten(), skew=0.1
    )
    assert int((offset[1:] < offset[0]).sum()) < 10


def test_the_best_of_all_joined_groups_is_drawn_in_whatever_parts_they_come(monkeypatch):
    mean, std, drawn, ask = normal(6), normal(6).abs(), [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *s, **o: drawn.append(ask(*s, **o)) or drawn[-1])
    monkeypatch.setattr(pools, "DRAWN", 2 * 4 * 6)  # of two first halves
    source = generator(8, "parts")
    found = pools.gaussian_group(mean, std, 4, Select(groups=30), source)
    second, *firsts = (mean + std * one for one in drawn)
    assert len(second) == 5 and [len(some) for some in firsts] == [2, 2, 2]
    groups = torch.stack([torch.cat([one, other]) for one in torch.cat(firsts) for other in second])
    best = int(pools.moments_offset(groups, mean, std, skew=0.1).argmin())
    torch.testing.assert_close(found, groups[best])
    assert 10 <= best < 20  # of neither the first part nor the last


def test_many_groups_take_the_draws_of_few(monkeypatch):
    drawn, ask = [], torch.randn

    def randn(*shape, **options):
        drawn.append(shape[0])
        return ask(*shape, **options)

    monkeypatch.setattr(torch, "randn", randn)
    choice, source = Select(groups=100_000), generator(0, "many")
    pools.gaussian_group(torch.zeros(8), torch.ones(8), 10, choice, source)
    assert sum(drawn) == 317 + 316


def written_out(centres, real, chosen, alpha=0.4, beta=0.9):
    """S3's objective."""
    cosine = torch.nn.functional.cosine_similarity
    picked = [centres[c, g] for c, g in enumerate(chosen)]
    near = sum(-(1 - cosine(c, r, dim=0)).log() for c, r in zip(picked, real, strict=True))
    pairs = itertools.combinations(picked, 2)
    return float(alpha * near + beta * sum((1 - cosine(a, b, dim=0)).log() for a, b in pairs))


def test_no_single_change_improves_what_coordinate_ascent_returns():
    for case in range(5):
        source = generator(case, "ascent")
        centres = torch.randn(6, 5, 4, generator=source).double()
        real = torch.randn(6, 4, generator=source).double()
        found = best_groups(centres, real, **NUMBERS).tolist()
        start = [
            int(torch.nn.functional.cosine_similarity(c, r[None], dim=1).argmax())
            for c, r in zip(centres, real, strict=True)
        ]
        value = written_out(centres, real, found)
        assert value >= written_out(centres, real, start)
        for label, group in itertools.product(range(6), range(5)):
            other = [*found[:label], group, *found[label + 1 :]]
            assert written_out(centres, real, other) <= value + 1e-9


def test_without_other_classes_the_nearest_groups_are_chosen():
    centres, real = normal(6, 5, 4), normal(6, 4)
    found = best_groups(centres, real, alpha=0.4, beta=0.0, sweeps=5)
    cosine = torch.nn.functional.cosine_similarity(centres, real[:, None], dim=2)
    assert torch.equal(found, cosine.argmax(dim=1))


def test_groups_of_a_class_alike_are_told_apart_by_the_other_classes():
    ant = torch.tensor([[1.0, 0.2], [1.0, -0.2]])  # as near to (1, 0)
    bee = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert best_groups(torch.stack([ant, bee]), real, **NUMBERS)[0] == 1


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_a_group_stands_for_the_mean_of_its_candidates_beside_that_of_its_own_class(seed):
    names, weights = ["ant", "bee", "cat"], {"alpha": 2.0, "beta": 0.2}
    pool = {name: candidates(15 + k, seed + k) for k, name in enumerate(names)}
    centres = torch.stack([pool[name].points[:15].view(3, 5, 3).mean(dim=1) for name in names])
    means = torch.stack([pool[name].mean for name in names])
    best = best_groups(centres, means, **weights, sweeps=5)
    found = select(dict(reversed(pool.items())), 5, Select(kind="centroids", **weights))
    for name, group in zip(names, best.tolist(), strict=True):
        assert found[name].tolist() == list(range(5 * group, 5 * group + 5))


def test_what_a_classifier_says_of_candidates():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    classifier = Classifier(network, lambda images: images).eval()
    images = torch.rand(7, 3, 2, 2, generator=generator(0, "images")) * 2 - 1
    said = pools.classify(classifier, images, 1)
    logits, features = classifier.embed(images)
    assert said.count == 7 and torch.equal(said.right, logits.argmax(dim=1) == 1)
    torch.testing.assert_close(said.points, features)
    torch.testing.assert_close(said.loss, -logits.detach().log_softmax(dim=1)[:, 1])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"groups": 1}, "at least 2 candidates for each image, got 1; for no pool write select"),
        ({"sweeps": 0}, "select.sweeps is at least 1"),
        ({"alpha": -1.0}, "select.alpha is a weight of at least 0, got -1"),
        ({"kind": "confident"}, "select.kind"),
    ],
)
def test_numbers_that_choose_nothing_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        Select(**wrong)


def test_a_sampler_makes_no_pool_unless_one_is_chosen_from():
    assert Select().candidates(10) == 10
    assert Select(kind="random", groups=3).candidates(10) == 30
    assert Select(kind="moments").sees == "latents" and Select(kind="nearest").sees == "features"
    assert not Select(kind="moments").needs_classifier
    assert Select(kind="moments", space="features").needs_classifier
