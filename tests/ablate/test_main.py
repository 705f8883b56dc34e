import json
from pathlib import Path

import pytest

from latentdc.ablate.__main__ import main

FAST = ["distill.steps=2", "evaluate.seeds=2", "evaluate.steps=3", "prune.scorer.epochs=1"]
SMALL = ["objective.network=convnet3@8", "objective.batch=8", "threads=1"]
OUT = Path("runs/digits_ipc1_ablation")


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory):
    """A folder in which two variants of the default recipe ran once."""
    folder = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["digits_ipc1", "--variants", "c-only,no-pruning", *FAST, *SMALL])
    return folder


def test_one_table_holds_each_variant_above_the_baselines(ablation, monkeypatch):
    monkeypatch.chdir(ablation)
    rows = [row["set"] for row in json.loads((OUT / "results.json").read_text())["rows"]]
    assert rows == ["recipe", "c-only", "no-pruning", "random", "coreset", "full"]
    assert (OUT / "table.md").read_text().count("\n| ") == 7
    alone = json.loads((OUT / "c-only" / "results.json").read_text())["rows"][0]
    joint = json.loads((OUT / "results.json").read_text())["rows"][1]
    assert alone["set"] == "distilled" and alone["accuracies"] == joint["accuracies"]


def test_pruning_is_shared_by_the_variants_that_prune_alike(ablation):
    cores = {name: ablation / OUT / name / "coreset.parquet" for name in ("recipe", "c-only")}
    assert cores["recipe"].read_bytes() == cores["c-only"].read_bytes()
    unpruned = ablation / OUT / "no-pruning" / "coreset.parquet"
    assert unpruned.read_bytes() != cores["recipe"].read_bytes()


def test_started_again_it_trains_nothing(ablation, monkeypatch):
    monkeypatch.chdir(ablation)

    def written():
        rows = (OUT / "rows").iterdir()
        return {path: path.stat().st_mtime_ns for path in [*rows, *OUT.glob("*/checkpoints/*")]}

    before = written()
    main(["digits_ipc1", "--variants", "c-only,no-pruning", *FAST, *SMALL])
    assert written() == before


def test_without_a_skip_the_gradient_of_z_decays_with_the_denoising_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentdc.ablate.gradients.STUDENTS", 1)
    main(["digits_ipc1", "--gradients", "2,8", *SMALL])
    norms = json.loads((OUT / "gradients.json").read_text())["norms"]
    assert norms["none"][1] < 0.5 * norms["none"][0]
    assert norms["x0"][1] > 0.5 * norms["x0"][0]
    assert norms["x0"][1] > 5 * norms["none"][1]


@pytest.mark.parametrize("given", ["1,2", "2,x", "", "2,1001"])
def test_steps_of_no_skip_are_refused(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", "--gradients", given])
    assert stop.value.code == 2 and "from 2 to 1000" in capsys.readouterr().err


def test_more_steps_than_the_prior_has_are_refused_before_any_is_measured(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentdc.ablate.gradients.gradient_norm", lambda *_: pytest.fail("began"))
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", "--gradients", "2,1000"])
    assert stop.value.code == 2 and "prior.steps=1000 is more" in capsys.readouterr().err


def test_gradients_of_a_prior_without_denoising_steps_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = ["prior.kind=pixel", "prior.weights=null"]
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", "--gradients", "2", *pixels])
    assert stop.value.code == 2 and "prior.kind=pixel has none" in capsys.readouterr().err
    assert not Path("runs").exists()
