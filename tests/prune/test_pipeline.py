import pytest
import torch
from accelerate import Accelerator

from latentdc.errors import InputError
from latentdc.prune import made
from latentdc.prune.pipeline import make_coreset, prune_dataset
from latentdc.prune.rules.random import random_scores
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours

QUICK = Scorer(network="convnet3@16", epochs=5, lr=0.1, batch=8)


def test_keep_one_keeps_everything_and_scores_nothing(monkeypatch):
    monkeypatch.setattr(made, "score_by_plan", lambda *_, **__: pytest.fail("scored"))
    coreset = prune_dataset(colours(), keep=1)
    assert coreset.indices(colours()).tolist() == list(range(12))
    assert (coreset.rule, coreset.scores.abs().sum()) == ("all", 0)


def test_a_scorer_is_trained_on_the_spot_and_its_accuracy_printed(capsys):
    coreset = prune_dataset(colours(32), colours(16, seed=1), keep=0.5, scorer=QUICK)
    assert coreset.labels.bincount().tolist() == [8, 8]
    assert "scorer convnet3@16: 100.00% right on colours train" in capsys.readouterr().out


def test_the_random_rule_chooses_the_same_images_in_every_copy_of_the_set():
    dataset = colours(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    copy = dataset.select(order)
    assert torch.equal(random_scores(copy.hashes, 0), random_scores(dataset.hashes, 0)[order])
    assert not torch.equal(random_scores(dataset.hashes, 0), random_scores(dataset.hashes, 1))
    one, other = (prune_dataset(d, score="random", keep=0.5) for d in (dataset, copy))
    assert set(one.hashes.tolist()) == set(other.hashes.tolist())


def test_a_saved_core_set_stands_in_for_scoring_and_must_fit(tmp_path):
    dataset = colours(20)
    prune_dataset(dataset, score="random", keep=0.5).save(tmp_path / "c.parquet")
    spec = Prune(keep=0.5, coreset=str(tmp_path / "c.parquet"))
    given = {"normalization": None, "seed": 0, "accelerator": None}
    assert make_coreset(spec, dataset, dataset, **given).rule == "random"
    with pytest.raises(InputError, match="are missing from colours train"):
        make_coreset(spec, colours(20, seed=9), dataset, **given)


def test_ten_budgets_cost_one_scoring(tmp_path, monkeypatch):
    dataset, calls = colours(32), []
    scoring = made.score_by_plan
    monkeypatch.setattr(made, "score_by_plan", lambda *a, **k: calls.append(1) or scoring(*a, **k))
    first = prune_dataset(dataset, keep=0.5, scorer=QUICK, folder=tmp_path)
    again = prune_dataset(dataset, keep=0.5, scorer=QUICK, folder=tmp_path)
    assert torch.equal(first.hashes, again.hashes)
    kept = str(tmp_path / "scores.parquet")
    for count in range(1, 10):
        assert len(prune_dataset(dataset, count=count, scores=kept)) == 2 * count
    for rule in ("aum", "entropy"):
        prune_dataset(dataset, score=rule, keep=0.5, scores=kept)
    assert len(calls) == 1


def test_scores_of_another_scorer_in_the_folder_are_not_taken(tmp_path):
    dataset = colours(32)
    other = Scorer(network="convnet3@8", epochs=4, lr=0.1, batch=8)
    prune_dataset(dataset, keep=0.5, scorer=other, folder=tmp_path)
    anew = prune_dataset(dataset, keep=0.5, scorer=QUICK, folder=tmp_path)
    assert torch.equal(anew.scores, prune_dataset(dataset, keep=0.5, scorer=QUICK).scores)


def test_scores_of_other_features_of_the_same_name_are_not_taken(tmp_path):
    import numpy as np

    dataset, path = colours(20), tmp_path / "f.npy"
    keys = {"score": "distance", "count": 4, "features": str(path), "folder": tmp_path / "run"}
    for values in (np.arange(20.0), np.arange(20.0) ** 3):
        np.save(path, values[:, None])
        coreset = prune_dataset(dataset, **keys)
    rows = torch.tensor([r for r in range(20) if dataset.hashes[r] in coreset.hashes])
    mean = torch.stack([(torch.arange(20.0)[i::2] ** 3).mean() for i in (0, 1)])
    torch.testing.assert_close(coreset.scores, (rows**3 - mean[rows % 2]).abs())


def test_a_share_that_would_empty_classes_says_so_once(capsys):
    dataset = colours(32)
    coreset = prune_dataset(dataset, score="random", keep=0.01)
    assert coreset.labels.bincount().tolist() == [1, 1]
    notes = capsys.readouterr().err
    assert notes.count("would leave 2 of 2 classes empty") == 1


def test_an_impossible_budget_is_refused_before_anything_is_scored(monkeypatch):
    monkeypatch.setattr(made, "score_by_plan", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InputError, match="the smallest class has 6"):
        prune_dataset(colours(), count=7, accelerator=Accelerator())
    with pytest.raises(InputError, match="the budget is 1 of 12 images, and with 2 classes"):
        prune_dataset(colours(), count=1, scope="global", accelerator=Accelerator())


@pytest.mark.parametrize("score", ["ccs", "d2", "moderate"])
def test_a_list_of_scores_is_what_a_choice_ranks_by(tmp_path, score):
    import json

    import numpy as np

    dataset, hardest = colours(20), [4, 5]
    values = [float(i not in hardest) for i in range(20)]  # as AUM, low is hard
    if score == "moderate":  # distances, of which the middle is kept
        values = [9.0 if i in hardest else float(i % 3) for i in range(20)]
    (tmp_path / "s.json").write_text(json.dumps(values))
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(20, 3)))
    coreset = prune_dataset(
        dataset, score=score, count=8, scores=f"{tmp_path}/s.json", features=f"{tmp_path}/f.npy"
    )
    assert len(coreset) == 16 and not {*hardest} & {*coreset.indices(dataset).tolist()}


def test_a_set_keeps_the_hardness_that_it_was_chosen_by(tmp_path):
    dataset = colours(8)
    (tmp_path / "s.csv").write_text("aum\n" + "\n".join(str(i) for i in range(8)))
    coreset = prune_dataset(dataset, score="ccs", count=4, scores=f"{tmp_path}/s.csv")
    assert coreset.scores.tolist() == [-float(i) for i in range(8)]  # of AUM, low is hard


def test_a_global_ranking_that_would_empty_classes_says_so_once(tmp_path, capsys):
    dataset = colours(20)
    (tmp_path / "s.csv").write_text("aum\n" + "\n".join(str(i % 2) for i in range(20)))
    given = {"score": "aum", "scores": f"{tmp_path}/s.csv", "scope": "global"}
    coreset = prune_dataset(dataset, count=10, **given)
    assert coreset.labels.bincount().tolist() == [1, 9]
    note = "note: the global ranking would leave 1 of 2 classes empty; each of them keeps its one"
    assert capsys.readouterr().err.count(note) == 1
    prune_dataset(dataset, count=12, **given)
    assert "would leave" not in capsys.readouterr().err


def test_features_can_be_brought(tmp_path, capsys):
    import numpy as np

    dataset = colours(20)
    np.save(tmp_path / "f.npy", np.arange(20, dtype=np.float32)[:, None])
    chosen = prune_dataset(
        dataset, score="kcenter", count=2, features=str(tmp_path / "f.npy")
    ).indices(dataset)
    assert "f.npy does not say which image each row is of" in capsys.readouterr().err
    assert chosen.tolist() == [8, 9, 18, 19]  # next to the means, then the farthest
