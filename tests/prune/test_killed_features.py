"""Features of a scoring that was killed late are the same after a restart, and never zeros."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from latentdc.errors import RunError
from latentdc.images import Normalization
from latentdc.prune import dynamics
from latentdc.prune.dynamics import Dynamics
from latentdc.prune.prune import score_dataset
from latentdc.prune.records import array_file
from latentdc.prune.scorers import ScorerTraining
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours

QUICK = {"network": "convnet3@8", "epochs": 4, "lr": 0.1, "batch": 8}
COLUMNS = ["loss", "distance", "prototypes", "herding"]


def scored(folder=None, weights=None):
    prune = Prune(columns=COLUMNS, scorer=Scorer(**QUICK, weights=weights))
    return score_dataset(colours(32), prune, folder=folder)


def saved_weights(folder) -> str:
    """Of a network that tells the colours apart."""
    given = {"normalization": Normalization(), "accelerator": Accelerator(), "seed": 0}
    run = ScorerTraining(colours(32), Scorer(**QUICK), **given)
    list(run.run())
    save_file(run.classifier.network.state_dict(), folder / "w.safetensors")
    return str(folder / "w.safetensors")


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("place", "name", "looks_again"),
    [(dynamics, "_of_features", False), (dynamics.Workspace, "clear", True)],
)
def test_features_outlive_a_kill_after_the_last_look(
    tmp_path, monkeypatch, place, name, looks_again, given
):
    weights = saved_weights(tmp_path) if given else None
    whole = scored(weights=weights)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with pytest.raises(KeyboardInterrupt):
            scored(tmp_path, weights)
    looks, observe = [], Dynamics.observe
    monkeypatch.setattr(Dynamics, "observe", lambda *a, **k: looks.append(1) or observe(*a, **k))
    again = scored(tmp_path, weights)
    for column, scores in whole.columns.items():
        assert torch.equal(scores, again.columns[column]), column
    assert torch.equal(again.features.mean(), whole.features.mean())
    kept = np.load(tmp_path / "features.npy").astype(np.float32).mean(0)
    np.testing.assert_allclose(kept, whole.features.mean(), atol=1e-5)
    assert bool(looks) == looks_again


def test_records_that_are_gone_are_not_taken_for_zeros(tmp_path):
    array_file(tmp_path, "loss", (1, 4), "<f4", keep=False)
    array_file(tmp_path, "loss", (1, 4), "<f4", keep=True)
    (tmp_path / "loss.npy").unlink()
    with pytest.raises(RunError, match=r"loss\.npy is gone; delete"):
        array_file(tmp_path, "loss", (1, 4), "<f4", keep=True)
