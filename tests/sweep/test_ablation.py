"""The shipped ablation: a recipe and variants of it that differ in one thing, and one table."""

import shlex
from pathlib import Path

import pytest

from latentdc import config
from latentdc.distill import check
from latentdc.experts.__main__ import main as train_experts
from latentdc.sweep import run as module
from latentdc.sweep.__main__ import main
from latentdc.sweep.spec import Sweep, expand
from tests.priors import small
from tests.priors.test_unconditional import unet

FAST = [
    *("distill.steps=2", "evaluate.students=[convnet3@4]", "evaluate.seeds=2", "evaluate.steps=3"),
    *("prune.scorer.network=convnet3@8", "prune.scorer.epochs=3", "prune.scorer.lr=0.1"),
]
SMALL = ["objective.network=convnet3@8", "objective.batch=8", "threads=1"]
OUT = Path("runs/ablation")
SOME = ["sweeps/ablation", "--only", "variant=recipe,c-only,no-pruning", *FAST, *SMALL]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory):
    """A folder in which two variants of the default recipe ran once."""
    folder = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(SOME)
    return folder


def test_one_table_holds_each_variant_above_the_baselines(ablation, monkeypatch):
    monkeypatch.chdir(ablation)
    lines = (OUT / "table.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert [name.split(" and ")[0] for name in names[2:5]] == ["recipe", "c-only", "no-pruning"]
    assert names[5::2] == ["random", "full"]
    assert names[6].startswith("coreset of recipe") and names[6].endswith(" and 1 more")
    assert names[8] == "coreset of no-pruning"


def test_pruning_is_shared_by_the_variants_that_prune_alike(ablation):
    cores = {name: ablation / OUT / name / "coreset.parquet" for name in ("recipe", "c-only")}
    assert cores["recipe"].read_bytes() == cores["c-only"].read_bytes()
    unpruned = ablation / OUT / "no-pruning" / "coreset.parquet"
    assert unpruned.read_bytes() != cores["recipe"].read_bytes()


def test_started_again_it_trains_nothing(ablation, monkeypatch):
    monkeypatch.chdir(ablation)

    def written():
        rows = (OUT / "trainings").iterdir()
        return {path: path.stat().st_mtime_ns for path in [*rows, *OUT.glob("*/checkpoints/*")]}

    before = written()
    main(SOME)
    assert written() == before


def test_each_variant_differs_from_the_recipe_in_its_own_overrides_only():
    sweep = config.load(Sweep, config.find("sweeps/ablation", "recipes"))
    recipes = expand(sweep, ["seed=3"], check=check)
    before = config.to_yaml(recipes["recipe",]).splitlines()
    for (name,), recipe in recipes.items():
        now = config.to_yaml(recipe).splitlines()
        changed = sum(a != b for a, b in zip(before, now, strict=True))
        assert changed <= len(sweep.changes((name,))), name
        assert recipe.seed == 3


def began(*_, **__):
    pytest.fail("began")


def test_experts_of_all_cells_are_looked_for_before_the_first_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run", began)
    tiny = [
        "prune.score=random", "experts.count=1", "experts.epochs=3", "objective.kind=mtt",
        "data.resolution=8", "prior.kind=pixel", "prior.weights=null", *SMALL,
    ]  # fmt: skip
    Path("two.yaml").write_text(
        "recipe: digits_ipc1\naxes: {variant: {noise: [distill.init=noise], all: [prune.keep=1]}}"
    )
    train_experts(["digits_ipc1", *tiny])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["two.yaml", *tiny])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "cell all: 1 of the 1 experts" in told
    assert "latentdc experts digits_ipc1 prune.score=random" in told
    train_experts(shlex.split(told.partition("Here that is: latentdc experts ")[2]))
    for path in Path("runs/experts").glob("*/expert-00000.safetensors"):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(SystemExit, match="2"):
            main(["two.yaml", *tiny])
        assert f"{path} is damaged" in capsys.readouterr().err
        path.write_bytes(whole)
    with pytest.raises(pytest.fail.Exception, match="began"):
        main(["two.yaml", *tiny])


def test_conditions_alone_of_a_prior_without_any_are_refused_before_the_first_cell_runs(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run", began)
    small.autoencoder().save_pretrained("faces/vae")
    unet().save_pretrained("faces/unet")
    small.build_scheduler().save_pretrained("faces/scheduler")
    faces = ["data.resolution=8", "prior.weights=faces", "prior.guidance=1", "prior.steps=2"]
    with pytest.raises(SystemExit) as stop:
        main(["sweeps/ablation", "--only", "variant=no-skip,c-only", *faces, *SMALL])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "cell c-only: " in told and "nothing would move" in told
    with pytest.raises(pytest.fail.Exception, match="began"):
        main(["sweeps/ablation", "--only", "variant=no-skip", *faces, *SMALL])
