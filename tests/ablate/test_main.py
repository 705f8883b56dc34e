import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from latentdc import config
from latentdc.ablate.__main__ import main
from latentdc.ablate.gradients import gradient_norm
from latentdc.data.open import open_dataset
from latentdc.errors import InputError
from latentdc.experts.__main__ import main as train_experts
from latentdc.recipe import Recipe
from tests.priors import small
from tests.priors.test_unconditional import unet

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
    rows = [row["set"] for row in json.loads((OUT / "results.json").read_text())["results"]]
    assert rows == ["recipe", "c-only", "no-pruning", "random", "coreset", "full"]
    assert (OUT / "table.md").read_text().count("\n| ") == 7
    alone = json.loads((OUT / "c-only" / "results.json").read_text())["results"][0]
    joint = json.loads((OUT / "results.json").read_text())["results"][1]
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


def one_norm(*overrides: str) -> float:
    main(["digits_ipc1", "--gradients", "2", *SMALL, *overrides])
    return float(json.loads((OUT / "gradients.json").read_text())["norms"]["x0"][0])


def test_students_of_gradient_matching_are_untrained_whatever_its_loops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentdc.ablate.gradients.SKIPS", ("x0",))
    monkeypatch.setattr("latentdc.ablate.gradients.STUDENTS", 2)
    dc = ["objective.kind=dc", "data.resolution=8", "prior.kind=diffusion"]
    trained = "objective.loops={outer: 2, inner: 2, lr_student: 0.5}"
    assert one_norm(*dc, trained) == one_norm(*dc, "objective.loops={outer: 1, inner: 1}")


def test_gradients_follow_the_memory_that_is_free(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentdc.ablate.gradients.SKIPS", ("x0",))
    monkeypatch.setattr("latentdc.ablate.gradients.STUDENTS", 1)
    whole = one_norm()
    assert "memory: fast" in capsys.readouterr().out
    monkeypatch.setattr("latentdc.methods.matching.free_bytes", lambda device: 10_000_000)
    assert one_norm() == pytest.approx(whole, rel=1e-4)
    assert "memory: low" in capsys.readouterr().out


def test_gradients_that_see_all_classes_are_refused_on_several_processes():
    recipe = config.load(
        Recipe, config.find("digits_ipc1", "recipes"), ["objective.network=convnet3-bn@8"]
    )
    two = SimpleNamespace(num_processes=2, device="cpu")
    train = open_dataset(recipe.data, "train")
    with pytest.raises(InputError, match="2 processes would each bring them all; start one"):
        gradient_norm(recipe, train, 2, "x0", two)


def test_experts_of_all_variants_are_looked_for_before_the_first_runs(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentdc.sweep.run.run", lambda *_, **__: pytest.fail("began"))
    tiny = [
        "prune.score=random", "experts.count=1", "experts.epochs=3", "objective.kind=mtt",
        "data.resolution=8", "prior.kind=pixel", "prior.weights=null", *SMALL,
    ]  # fmt: skip
    train_experts(["digits_ipc1", *tiny])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", *tiny, "--variants", "from-noise,no-pruning"])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "cell no-pruning: 1 of the 1 experts" in told
    assert "latentdc experts digits_ipc1 prune.score=random" in told
    command = shlex.split(told.partition("Here that is: latentdc experts ")[2])
    train_experts(command)
    with pytest.raises(pytest.fail.Exception, match="began"):
        main(["digits_ipc1", *tiny, "--variants", "from-noise,no-pruning"])


def test_conditions_alone_of_a_prior_without_any_are_refused_before_the_first_variant_runs(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentdc.sweep.run.run", lambda *_, **__: pytest.fail("began"))
    small.autoencoder().save_pretrained("faces/vae")
    unet().save_pretrained("faces/unet")
    small.build_scheduler().save_pretrained("faces/scheduler")
    faces = ["data.resolution=8", "prior.weights=faces", "prior.guidance=1", "prior.steps=2"]
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", "--variants", "c-only,no-skip", *faces, *SMALL])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "cell c-only: " in told and "nothing would move" in told
    with pytest.raises(pytest.fail.Exception, match="began"):
        main(["digits_ipc1", "--variants", "no-skip", *faces, *SMALL])


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
