import dataclasses

import numpy as np
import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune import score as module
from latentdc.prune.prune import choose_coreset, prune_dataset
from latentdc.prune.rules import sets
from latentdc.prune.rules.sampling import random_scores
from latentdc.prune.score_table import ScoreTable
from latentdc.ranks import warn
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours

QUICK = Scorer(network="convnet3@16", epochs=5, lr=0.1, batch=8)
HALF = Prune(keep=0.5, scorer=QUICK)
RANDOM = Prune(score="random", keep=0.5)


def test_keep_one_keeps_everything_and_scores_nothing(monkeypatch):
    monkeypatch.setattr(module, "compute_scores", lambda *_, **__: pytest.fail("scored"))
    coreset = prune_dataset(colours(), Prune(keep=1))
    assert coreset.indices(colours()).tolist() == list(range(12))
    assert (coreset.rule, coreset.scores.abs().sum()) == ("all", 0)


def test_a_scorer_is_trained_on_the_spot_and_its_accuracy_printed(capsys):
    coreset = prune_dataset(colours(32), HALF, colours(16, seed=1))
    assert coreset.labels.bincount().tolist() == [8, 8]
    assert "scorer convnet3@16: 100.00% right on colours train" in capsys.readouterr().err


def test_the_random_rule_chooses_the_same_images_in_every_copy_of_the_set():
    dataset = colours(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    copy = dataset.select(order)
    assert torch.equal(random_scores(copy.hashes, 0), random_scores(dataset.hashes, 0)[order])
    assert not torch.equal(random_scores(dataset.hashes, 0), random_scores(dataset.hashes, 1))
    one, other = (prune_dataset(d, RANDOM) for d in (dataset, copy))
    assert set(one.hashes.tolist()) == set(other.hashes.tolist())


def test_a_saved_core_set_stands_in_for_scoring_and_must_fit(tmp_path):
    dataset = colours(20)
    prune_dataset(dataset, RANDOM).save(tmp_path / "c.parquet")
    spec = Prune(keep=0.5, coreset=str(tmp_path / "c.parquet"))
    assert prune_dataset(dataset, spec).rule == "random"
    with pytest.raises(InputError, match="are missing from colours train"):
        prune_dataset(colours(20, seed=9), spec)


def test_ten_budgets_cost_one_scoring(tmp_path, monkeypatch):
    dataset, calls = colours(32), []
    scoring = module.compute_scores
    monkeypatch.setattr(module, "compute_scores", lambda *a: calls.append(1) or scoring(*a))
    first = prune_dataset(dataset, HALF, folder=tmp_path)
    again = prune_dataset(dataset, HALF, folder=tmp_path)
    assert torch.equal(first.hashes, again.hashes)
    kept = str(tmp_path / "scores.parquet")
    for count in range(1, 10):
        assert len(prune_dataset(dataset, Prune(count=count, scores=kept))) == 2 * count
    for rule in ("aum", "entropy"):
        prune_dataset(dataset, Prune(score=rule, keep=0.5, scores=kept))
    assert len(calls) == 1


def test_scores_of_another_scorer_in_the_folder_are_not_taken(tmp_path):
    dataset = colours(32)
    other = Scorer(network="convnet3@8", epochs=4, lr=0.1, batch=8)
    prune_dataset(dataset, Prune(keep=0.5, scorer=other), folder=tmp_path)
    anew = prune_dataset(dataset, HALF, folder=tmp_path)
    assert torch.equal(anew.scores, prune_dataset(dataset, HALF).scores)


def test_scores_of_other_features_of_the_same_name_are_not_taken(tmp_path):

    dataset, path = colours(20), tmp_path / "f.npy"
    prune = Prune(score="distance", count=4, features=str(path))
    for values in (np.arange(20.0), np.arange(20.0) ** 3):
        np.save(path, values[:, None])
        coreset = prune_dataset(dataset, prune, folder=tmp_path / "run")
    rows = torch.tensor([r for r in range(20) if dataset.hashes[r] in coreset.hashes])
    mean = torch.stack([(torch.arange(20.0)[i::2] ** 3).mean() for i in (0, 1)])
    torch.testing.assert_close(coreset.scores, (rows**3 - mean[rows % 2]).abs())


def test_a_share_that_would_empty_classes_says_so_once(capsys):
    dataset = colours(32)
    coreset = prune_dataset(dataset, Prune(score="random", keep=0.01))
    assert coreset.labels.bincount().tolist() == [1, 1]
    notes = capsys.readouterr().err
    assert notes.count("would leave 2 of 2 classes empty") == 1


def test_an_impossible_budget_is_refused_before_anything_is_scored(monkeypatch):
    monkeypatch.setattr(module, "compute_scores", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InputError, match="the smallest class has 6"):
        prune_dataset(colours(), Prune(count=7))
    with pytest.raises(InputError, match="the budget is 1 of 12 images, and with 2 classes"):
        prune_dataset(colours(), Prune(count=1, scope="global"))


@pytest.mark.parametrize("names", [("red", "blue", "none"), ("red", "none", "blue")])
def test_a_class_without_images_is_refused_before_anything_is_scored(names, monkeypatch):
    """Of `Dataset.select`, whose classes keep their labels; a last class was a traceback."""
    whole = colours(18)
    labels = torch.tensor([names.index(name) for name in ("red", "blue")])[whole.labels]
    some = dataclasses.replace(whole, labels=labels, class_names=names)
    table = module.score_dataset(whole, RANDOM)
    monkeypatch.setattr(module, "compute_scores", lambda *_, **__: pytest.fail("scored"))
    for prune in (HALF, RANDOM, Prune(score="random", count=2), Prune()):
        with pytest.raises(InputError, match="classes: none; leave empty classes out, and number"):
            prune_dataset(some, prune)
        with pytest.raises(InputError, match="no images of 1 of its 3 classes: none"):
            module.score_dataset(some, prune)
    for keys in ({"keep": 0.5}, {"count": 2}, {"keep": 0.5, "scope": "global"}):
        with pytest.raises(InputError, match="no images of 1 of its 3 classes: none"):
            choose_coreset(table, some, Prune(score="random", **keys))


@pytest.mark.parametrize("score", ["ccs", "d2", "moderate"])
def test_a_list_of_scores_is_what_a_choice_ranks_by(tmp_path, score):
    import json

    dataset, hardest = colours(20), [4, 5]
    values = [float(i not in hardest) for i in range(20)]  # as AUM, low is hard
    if score == "moderate":  # distances, of which the middle is kept
        values = [9.0 if i in hardest else float(i % 3) for i in range(20)]
    (tmp_path / "s.json").write_text(json.dumps(values))
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(20, 3)))
    files = {"scores": f"{tmp_path}/s.json", "features": f"{tmp_path}/f.npy"}
    coreset = prune_dataset(dataset, Prune(score=score, count=8, **files))
    assert len(coreset) == 16 and not {*hardest} & {*coreset.indices(dataset).tolist()}


def test_a_set_keeps_the_hardness_that_it_was_chosen_by(tmp_path):
    dataset = colours(8)
    (tmp_path / "s.csv").write_text("aum\n" + "\n".join(str(i) for i in range(8)))
    coreset = prune_dataset(dataset, Prune(score="ccs", count=4, scores=f"{tmp_path}/s.csv"))
    assert coreset.scores.tolist() == [-float(i) for i in range(8)]  # of AUM, low is hard


def test_middle_images_are_kept_by_their_distances_with_the_most_central_first():
    data, distance = colours(8), torch.tensor([3.0, 8, 1, 6, 2, 7, 4, 5])
    columns = {"loss": torch.arange(8.0), "distance": distance}
    table = ScoreTable(data.hashes, data.labels, data.class_names, columns, data.name)
    coreset = choose_coreset(table, data, Prune(score="moderate", count=2))
    rows = coreset.indices(data)
    assert {*rows.tolist()} == {0, 4, 3, 5}  # of 3, 1, 2, 4 and of 8, 6, 7, 5
    assert coreset.scores.tolist() == distance[rows].tolist()
    assert coreset.order == "middle"


def test_columns_that_given_scores_lack_are_said(tmp_path, capsys):
    (tmp_path / "s.csv").write_text("aum\n" + "\n".join(str(i) for i in range(8)))
    given = {"score": "aum", "count": 4, "scores": f"{tmp_path}/s.csv"}
    warn.cache_clear()
    prune_dataset(colours(8), Prune(columns=["aum", "ccs"], **given))
    assert "prune.columns" not in capsys.readouterr().err
    prune_dataset(colours(8), Prune(columns=["el2n", "loss"], **given))
    assert "warning: prune.columns: el2n, loss not in " in capsys.readouterr().err


def test_a_global_ranking_that_would_empty_classes_says_so_once(tmp_path, capsys):
    dataset = colours(20)
    (tmp_path / "s.csv").write_text("aum\n" + "\n".join(str(i % 2) for i in range(20)))
    given = {"score": "aum", "scores": f"{tmp_path}/s.csv", "scope": "global"}
    coreset = prune_dataset(dataset, Prune(count=10, **given))
    assert coreset.labels.bincount().tolist() == [1, 9]
    note = "note: the global ranking would leave 1 of 2 classes empty; each of them keeps its one"
    assert capsys.readouterr().err.count(note) == 1
    prune_dataset(dataset, Prune(count=12, **given))
    assert "would leave" not in capsys.readouterr().err


def test_features_can_be_brought(tmp_path, capsys):
    dataset = colours(20)
    features = np.arange(20, dtype=np.float32)[:, None]
    features[8:10] += 0.5  # nearer to the means than what lies on their other side
    np.save(tmp_path / "f.npy", features)
    prune = Prune(score="kcenter", count=2, features=str(tmp_path / "f.npy"))
    chosen = prune_dataset(dataset, prune).indices(dataset)
    assert "f.npy does not say which image each row is of" in capsys.readouterr().err
    assert chosen.tolist() == [8, 9, 18, 19]  # next to the means, then the farthest


def of_one_value(features):
    """A rule that takes one value per image."""
    return (features @ torch.ones(1)).sort().values


def of_a_layer(features):
    """A rule that takes what the last layer of a convnet3@16 for 8 px sees."""
    return features @ torch.ones(16)


def test_own_rules_get_features_as_wide_as_they_are(tmp_path):
    np.save(tmp_path / "f.npy", np.arange(20, dtype=np.float32)[:, None])
    brought = Prune(score=of_one_value, count=2, features=str(tmp_path / "f.npy"), scorer=QUICK)
    assert len(prune_dataset(colours(20), brought)) == 4
    assert len(prune_dataset(colours(20), Prune(score=of_a_layer, count=2, scorer=QUICK))) == 4


def of_a_table(hashes):
    """A rule that looks each image up."""
    known = dict(zip(colours(20).hashes.tolist(), range(20), strict=True))
    return torch.tensor([known[one] for one in hashes.tolist()])


def of_far_neighbours(features, labels):
    """A rule that needs more of a class than a few random samples have."""
    near = torch.cdist(features, features)
    return torch.stack(
        [row[labels == own].topk(10).values[-1] for row, own in zip(near, labels, strict=True)]
    )


def of_each_class(features, labels):
    """A rule that needs two of each class."""
    spread = torch.stack([features[labels == own].std(dim=0) for own in labels.unique()])
    return features[:, 0] / (1 + spread[labels, 0])


def of_resized_images(logits, features):
    """A rule that takes what the last layer of a convnet3@8 for 32 px sees."""
    return logits[:, 0] + features @ torch.ones(128)


@pytest.mark.parametrize("rule", [of_a_table, of_far_neighbours, of_each_class, of_resized_images])
def test_own_rules_that_random_samples_would_not_do_for_are_taken(rule):
    scorer = dataclasses.replace(QUICK, network="convnet3@8", epochs=2, resolution=32)
    prune = Prune(score=rule, count=2, scorer=scorer)
    assert len(prune_dataset(colours(20), prune)) == 4
    many = [f"c{i}" for i in range(40)]
    data = dataclasses.replace(colours(120), class_names=tuple(many), labels=torch.arange(120) % 40)
    if rule is of_each_class:
        assert len(prune_dataset(data, dataclasses.replace(prune, count=1))) == 40


def of_shifted_logits(logits, labels):
    """A rule that works in place."""
    logits -= logits.mean(dim=1, keepdim=True)
    labels.zero_()
    return logits.amax(dim=1)


def of_blanked_hashes(hashes, labels):
    """A rule of contents that works in place."""
    labels.zero_()
    return hashes.zero_() + torch.arange(len(hashes))


@pytest.mark.parametrize("rule", [of_shifted_logits, of_blanked_hashes])
def test_own_rules_may_change_what_they_are_given(rule):
    data = colours(20)
    own = module.score_dataset(data, Prune(score=rule, count=2, scorer=QUICK))
    plain = module.score_dataset(colours(20), Prune(score="loss", count=2, scorer=QUICK))
    assert torch.equal(data.labels, colours(20).labels)
    assert torch.equal(data.hashes, colours(20).hashes)
    shared = own.columns.keys() & plain.columns.keys()
    assert ("loss" in shared) == (rule is of_shifted_logits)  # of contents alone nothing is trained
    assert all(torch.equal(own.columns[name], plain.columns[name]) for name in shared)


def test_finished_scores_are_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    prune = Prune(score="loss", count=2, scorer=QUICK)
    first = module.score_dataset(colours(20), prune, folder=tmp_path / "s")
    monkeypatch.setattr(module.io, "require_writable", lambda *_: pytest.fail("asked to write"))
    again = module.score_dataset(colours(20), prune, folder=tmp_path / "s")
    assert torch.equal(first.columns["loss"], again.columns["loss"])


def test_gist_refuses_budgets_of_too_many_distances_before_anything_is_scored(monkeypatch):
    monkeypatch.setattr(module, "compute_scores", lambda *_, **__: pytest.fail("scored"))
    monkeypatch.setattr(sets, "_PAIRS", 20 * 10)
    wide = Prune(score="gist", keep=0.6, scope="global", scorer=QUICK)
    with pytest.raises(InputError, match=r"all 20 images to each of 12 .*prune.scope=class"):
        prune_dataset(colours(20), wide)
    with pytest.raises(pytest.fail.Exception, match="scored"):  # 10 images of a class by 6
        prune_dataset(colours(20), dataclasses.replace(wide, scope="class"))
