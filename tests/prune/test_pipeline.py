import dataclasses
import math

import pytest
import torch

from latentdc.errors import InputError, RunError
from latentdc.prune import pipeline, scores
from latentdc.prune.pipeline import make_coreset, prune_dataset
from latentdc.prune.scores import random_scores
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours, means

QUICK = Scorer(network="convnet3@16", epochs=5, lr=0.1, batch=8)


def test_keep_one_keeps_everything_and_scores_nothing(monkeypatch):
    monkeypatch.setattr(pipeline, "loss_scores", lambda *_, **__: pytest.fail("scored"))
    coreset = prune_dataset(colours(), keep=1)
    assert coreset.indices(colours()).tolist() == list(range(12))
    assert (coreset.rule, coreset.scores.abs().sum()) == ("all", 0)


def test_the_easiest_images_of_each_class_have_the_smallest_loss(monkeypatch):
    monkeypatch.setattr(scores, "_given", lambda *_: means())
    dataset = colours(40)
    easy, hard = (
        prune_dataset(dataset, keep=0.25, order=order, scorer=Scorer(weights="given"))
        for order in ("easy", "hard")
    )
    red = dataset.images.float().mean(dim=(2, 3))
    margin = torch.where(dataset.labels == 0, red[:, 0] - red[:, 2], red[:, 2] - red[:, 0])
    for label in (0, 1):
        members = dataset.members(label)
        ranked = members[margin[members].argsort(descending=True)]
        rows = easy.indices(dataset)
        assert set(rows[dataset.labels[rows] == label].tolist()) == set(ranked[:5].tolist())
        rows = hard.indices(dataset)
        assert set(rows[dataset.labels[rows] == label].tolist()) == set(ranked[-5:].tolist())


def test_losses_are_averaged_over_the_epochs_of_the_training(monkeypatch):
    gains = iter((1.0, 2.0, 3.0))
    monkeypatch.setattr(scores, "train_scorer", lambda *_, **__: (means(g) for g in gains))
    dataset = colours(8)
    averaged = prune_dataset(dataset, keep=0.99, scorer=Scorer(epochs=3)).scores
    red, blue = (dataset.images[:, channel].float().mean(dim=(1, 2)) / 255 for channel in (0, 2))
    logits = torch.stack([red, blue], dim=1)
    losses = [-(g * logits).log_softmax(1)[torch.arange(8), dataset.labels] for g in (1, 2, 3)]
    torch.testing.assert_close(averaged, torch.stack(losses).mean(dim=0))


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


def test_a_scorer_with_the_wrong_class_order_is_refused(monkeypatch):
    swapped = dataclasses.replace(colours(), labels=1 - colours().labels)
    monkeypatch.setattr(scores, "_given", lambda *_: means())
    with pytest.raises(InputError, match=r"0\.00% of the images.*its class order or its normal"):
        prune_dataset(swapped, keep=0.5, scorer=Scorer(weights="given"))


def test_losses_that_are_not_finite_stop_the_run(monkeypatch):
    monkeypatch.setattr(scores, "train_scorer", lambda *_, **__: iter([means(gain=math.nan)]))
    with pytest.raises(RunError, match=r"not finite; lower prune\.scorer\.lr"):
        prune_dataset(colours(), keep=0.5, scorer=QUICK)


def test_a_saved_core_set_stands_in_for_scoring_and_must_fit(tmp_path):
    dataset = colours(20)
    prune_dataset(dataset, score="random", keep=0.5).save(tmp_path / "c.parquet")
    spec = Prune(keep=0.5, coreset=str(tmp_path / "c.parquet"))
    given = {"normalization": None, "seed": 0, "accelerator": None}
    assert len(make_coreset(spec, dataset, dataset, **given)) == 10
    with pytest.raises(InputError, match="10 of the 10 images"):
        make_coreset(spec, colours(20, seed=9), dataset, **given)
