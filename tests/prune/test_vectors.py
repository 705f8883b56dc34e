from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from latentdc.data import vectors as module
from latentdc.data.open import plain_preprocessing
from latentdc.errors import InputError
from latentdc.images import MappedImages
from latentdc.networks import new_network
from latentdc.prune.prune import prune_dataset
from latentdc.prune.report import suspects, write_report
from latentdc.prune.score import score_dataset
from latentdc.recipe import Data, Prune, Scorer
from latentdc.recipe.rules import RULES
from tests.clusters import CLASSES, clusters, opened

SCORER = Scorer(network="mlp@32", epochs=10, lr=0.05, batch=32)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """800 vectors, of which 40 have a wrong label, and which they are."""
    _, labels = clusters(200, seed=1)
    wrong = torch.randperm(800, generator=torch.Generator().manual_seed(3))[:40]
    labels[wrong] = (labels[wrong] + 1 + wrong % (CLASSES - 1)) % CLASSES
    folder = tmp_path_factory.mktemp("noisy") / "set"
    train, test = opened(folder, per_class=200, train_labels=labels.numpy())
    return train, test, wrong


@pytest.fixture(scope="module")
def scores(noisy):
    train, test, _ = noisy
    wanted = [name for name, rule in RULES.items() if rule.stage in ("predictions", "features")]
    return score_dataset(
        train, Prune(columns=[*wanted, "tdds", "random", "d2"], scorer=SCORER), test
    )


@pytest.mark.parametrize("rule", ["loss", "aum", "el2n"])
def test_wrong_labels_are_among_the_hardest_tenth(noisy, scores, rule):
    _, _, wrong = noisy
    hardest = scores.hardness(rule).argsort(descending=True)[:80]
    assert torch.isin(wrong, hardest).float().mean() >= 0.8


def test_every_rule_that_ranks_has_finite_scores_that_differ(scores):
    ranked = [n for n, rule in RULES.items() if not rule.chooses and n != "memorization"]
    assert set(ranked) <= scores.columns.keys()
    for name in ranked:
        column = scores.column(name)
        assert column.isfinite().all() and column.unique().numel() > 1, name


def test_herding_follows_the_vectors_themselves_and_trains_nothing(tmp_path, capsys):
    train, test = opened(tmp_path / "set", per_class=20)
    kept = prune_dataset(train, Prune(score="herding", count=3), test).indices(train)
    wanted = []
    for label in range(CLASSES):
        members = train.members(label)
        own = train.images[members].double()
        chosen, total = [], torch.zeros(own.shape[1]).double()
        for count in range(1, 4):
            gap = (own.mean(0) * count - total - own).norm(dim=1)
            gap[chosen] = torch.inf
            chosen.append(int(gap.argmin()))
            total += own[chosen[-1]]
        wanted += members[chosen].tolist()
    assert kept.tolist() == sorted(wanted)
    assert "scorer" not in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["kcenter", "moderate", "d2"])
def test_rules_that_choose_keep_as_many_as_asked_of_each_class(tmp_path, rule):
    train, test = opened(tmp_path / "set", per_class=20)
    kept = prune_dataset(train, Prune(score=rule, count=4, scorer=SCORER), test)
    assert kept.labels.bincount().tolist() == [4] * CLASSES


def test_wrong_labels_are_found_and_reports_written_without_pictures(noisy, scores, tmp_path):
    pytest.importorskip("matplotlib")
    train, test, wrong = noisy
    found = suspects(scores)
    assert len(found) == 8 and torch.isin(found, wrong).float().mean() >= 0.75
    kept = prune_dataset(train, Prune(score="random", keep=0.5), test)
    few = replace(scores, columns={name: scores.column(name) for name in ("loss", "aum")})
    page = write_report(tmp_path / "report", few, train, kept).read_text()
    assert "![histogram of loss](loss.png)" in page and "easiest by" not in page


def test_vectors_on_disk_give_the_same_scores_and_choices(tmp_path, monkeypatch):
    near = opened(tmp_path / "set", per_class=20)
    monkeypatch.setattr(module, "MEMORY_LIMIT", 0)
    far = opened(tmp_path / "set", per_class=20)
    assert isinstance(far[0].images, MappedImages)
    part = far[0].select(torch.arange(30, 70))  # a view of a mapped file
    columns = [score_dataset(a, Prune(scorer=SCORER), b).column("loss") for a, b in (near, far)]
    chosen = [
        prune_dataset(some, Prune(score="herding", count=3)).hashes.sort().values
        for some in (near[0].select(torch.arange(30, 70)), part)
    ]
    assert torch.equal(*columns) and torch.equal(*chosen)


def test_weights_of_an_mlp_score_vectors(tmp_path):
    train, test = opened(tmp_path / "set", per_class=40)
    standard = plain_preprocessing(Data(), train)
    network = new_network("linear", num_classes=CLASSES, resolution=train.resolution, seed=0)
    means = torch.stack([standard(train.images)[train.labels == c].mean(0) for c in range(CLASSES)])
    with torch.no_grad():  # the classifier of the nearest mean
        network.linear.weight.copy_(means)
        network.linear.bias.copy_(-means.square().sum(1) / 2)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    given = Scorer(network="linear", weights=str(tmp_path / "weights.safetensors"))
    loss = score_dataset(train, Prune(scorer=given), test).column("loss")
    logits = standard(train.images) @ means.T - means.square().sum(1) / 2
    wanted = F.cross_entropy(logits, train.labels, reduction="none")
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)


def test_a_scorer_of_images_is_refused_before_training(tmp_path):
    train, test = opened(tmp_path / "set", per_class=5)
    with pytest.raises(InputError, match="convnet3 is a network of images"):
        prune_dataset(train, Prune(keep=0.5), test)


def test_scores_do_not_depend_on_whether_vectors_are_half_precision(tmp_path):
    half = clusters(20, seed=1)[0].half().numpy()
    one = opened(tmp_path / "half", per_class=20, train=half)
    two = opened(tmp_path / "full", per_class=20, train=half.astype(np.float32))
    columns = [score_dataset(a, Prune(scorer=SCORER), b).column("loss") for a, b in (one, two)]
    assert torch.equal(*columns)
