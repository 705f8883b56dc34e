"""Scoring: what is averaged, and what a killed one does when it is started again."""

import math

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from latentdc.draws import key_seed
from latentdc.errors import InputError, RunError
from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.prune import dynamics, measures, score
from latentdc.prune.dynamics import Workspace
from latentdc.prune.rules.predictions import cross_entropy
from latentdc.prune.score import score_dataset
from latentdc.prune.scorer_training import ScorerTraining
from latentdc.recipe import Prune, RuleSettings, Scorer
from latentdc.recipe.rules import RULES, Rule
from tests.prune.toys import colours

QUICK = {"network": "convnet3@8", "epochs": 4, "lr": 0.1, "batch": 8}
DYNAMICS = ["loss", "el2n", "forgetting", "aum", "tdds", "grand"]
SPAN = RuleSettings(span=3)


def scored(train=None, *, columns=DYNAMICS, folder=None, window=None, **keys):
    prune = Prune(
        score=columns[0],
        columns=columns[1:],
        scorer=Scorer(**{**QUICK, **keys}),
        window=window,
        rules=SPAN,
    )
    return score_dataset(train or colours(32), prune, folder=folder)


def losses_of_epochs(seed=0) -> torch.Tensor:
    """(epochs, N), from a training of its own."""
    train, rows = colours(32), []
    run = ScorerTraining(
        train,
        Scorer(**QUICK),
        normalization=Normalization(),
        seed=seed,
        accelerator=Accelerator(),
    )
    for _ in run.run():
        run.classifier.eval()
        with torch.no_grad():
            logits = run.classifier(train.images.float() / 127.5 - 1)
        rows.append(cross_entropy(logits, train.labels))
    return torch.stack(rows)


def test_losses_are_averaged_over_all_epochs_or_those_of_the_window():
    losses = losses_of_epochs()
    for window, rows in ((None, slice(None)), ((1, 3), slice(3)), ((4, 4), slice(3, 4))):
        expected = losses[rows].mean(dim=0)
        columns = ["loss"] if window == (4, 4) else DYNAMICS
        torch.testing.assert_close(
            scored(window=window, columns=columns).columns["loss"], expected, rtol=1e-4, atol=1e-5
        )


def test_a_score_of_the_last_epoch_is_its_value_however_many_were_looked_at():
    every, last = (scored(columns=["entropy"], window=w).columns["entropy"] for w in (None, (4, 4)))
    assert torch.equal(every, last)


def test_scores_are_averaged_over_independent_trainings():
    one, two = scored(columns=["loss"]), scored(columns=["loss"], runs=2)
    second = 2 * two.columns["loss"] - one.columns["loss"]
    expected = losses_of_epochs(key_seed(0, "scorer", "run-1")).mean(dim=0)
    torch.testing.assert_close(second, expected, rtol=1e-3, atol=1e-4)
    again = scored(columns=["loss"], runs=2)
    assert torch.equal(again.columns["loss"], two.columns["loss"])


def test_a_window_that_ends_early_trains_no_further(monkeypatch):
    done, loss = set(), ScorerTraining._loss
    monkeypatch.setattr(
        ScorerTraining, "_loss", lambda self, *rest: done.add(self.done) or loss(self, *rest)
    )
    scored(columns=["loss"], window=(1, 3))
    assert done == {0, 1, 2}


def test_one_training_gives_all_scores_of_its_dynamics(monkeypatch):
    trained = []
    made = score.ScorerTraining
    monkeypatch.setattr(score, "ScorerTraining", lambda *a, **k: trained.append(1) or made(*a, **k))
    table = scored()
    assert {*DYNAMICS, "entropy", "margin", "aum_probability"} <= set(table.columns)
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("random", Rule("sampling:random_scores", "contents")),
        ("grand", Rule("predictions:grand", "last")),
        ("tdds", Rule("dynamics:tdds", "records")),
        ("memorization", Rule("dynamics:memorization", "subsets")),
        ("distance", Rule("features:distance", "features")),
    ],
)
def test_a_new_rule_of_any_stage_needs_no_more_than_its_line(monkeypatch, name, twin):
    monkeypatch.setitem(RULES, "twin", twin)
    monkeypatch.setattr(score, "refuse_chance", lambda *_: None)  # the toy is small for subsets
    # The mean of a window of one epoch is what the last epoch alone gives.
    given = {"window": (4, 4) if twin.stage == "last" else None}
    alone, beside = (scored(columns=[column], **given).columns for column in ("twin", name))
    torch.testing.assert_close(alone["twin"], beside[name], rtol=1e-3, atol=1e-3)
    assert alone["twin"].std() > 0


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_training_goes_on_and_ends_with_the_same_scores(
    tmp_path, monkeypatch, killed_after
):
    whole = scored()
    save, saved, epochs = Workspace.save, [], []

    def dying(self, name, tensors):
        save(self, name, tensors)
        saved.extend([name] if name.endswith("state") else [])
        if len(saved) == killed_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            scored(folder=tmp_path)
    loss = ScorerTraining._loss
    monkeypatch.setattr(
        ScorerTraining,
        "_loss",
        lambda self, *rest: epochs.append(self.done) or loss(self, *rest),
    )
    again = scored(folder=tmp_path)
    assert min(epochs) == killed_after  # epochs that were finished are not trained again
    for name, column in whole.columns.items():
        assert torch.equal(column, again.columns[name]), name
    assert not (tmp_path / "scoring").exists()


def test_what_another_scorer_left_is_not_continued(tmp_path, monkeypatch):
    def dying(self, name, tensors):
        saved(self, name, tensors)
        raise KeyboardInterrupt

    saved = Workspace.save
    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            scored(folder=tmp_path, lr=0.1)
    assert torch.equal(scored(folder=tmp_path).columns["loss"], scored().columns["loss"])


@pytest.fixture
def weights(tmp_path):
    """Of a network that tells the colours apart."""
    run = ScorerTraining(
        colours(32),
        Scorer(**{**QUICK, "lr": 0.1}),
        normalization=Normalization(),
        seed=0,
        accelerator=Accelerator(),
    )
    list(run.run())
    save_file(run.classifier.network.state_dict(), tmp_path / "w.safetensors")
    return str(tmp_path / "w.safetensors")


def test_a_killed_look_through_given_weights_goes_on_where_it_was(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(measures, "BLOCK", 1)
    keys = {"columns": ["loss", "herding"], "weights": weights}
    whole = scored(**keys)
    save = Workspace.save

    def dying(self, name, tensors):
        save(self, name, tensors)
        if name == "given/rows-8":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            scored(folder=tmp_path, **keys)
    starts = []
    blocks = dynamics.Dynamics._blocks
    monkeypatch.setattr(
        dynamics.Dynamics,
        "_blocks",
        lambda self, *a, **k: starts.append(k["start"]) or blocks(self, *a, **k),
    )
    again = scored(folder=tmp_path, **keys)
    assert starts == [16]
    assert torch.equal(again.columns["loss"], whole.columns["loss"])
    assert torch.equal(again.features.mean(), whole.features.mean())
    assert (tmp_path / "features.npy").is_file()


def test_given_weights_have_no_training_and_so_no_scores_of_it(weights):
    table = scored(columns=["loss"], weights=weights)
    assert {"loss", "el2n", "entropy"} <= set(table.columns)
    assert not {"aum", "forgetting"} & set(table.columns)
    with pytest.raises(InputError, match=r"aum looks at the training of a scorer"):
        scored(columns=["aum"], weights=weights)


def test_a_scorer_at_chance_is_refused_before_it_scores(tmp_path, monkeypatch):
    network = new_network("convnet3@8", "x", num_classes=2, resolution=8, seed=0)
    network.linear.weight.data.zero_()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(dynamics.Dynamics, "_blocks", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InputError, match=r"its class order or its normalisation"):
        scored(columns=["loss"], weights=str(tmp_path / "w.safetensors"))


def test_losses_that_are_not_finite_stop_the_run(monkeypatch):
    monkeypatch.setattr(
        "latentdc.prune.rules.predictions.cross_entropy",
        lambda logits, labels: torch.full((len(labels),), math.nan),
    )
    with pytest.raises(RunError, match=r"not finite; lower prune\.scorer\.lr"):
        scored(columns=["loss"])
