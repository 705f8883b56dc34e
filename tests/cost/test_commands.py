"""`--dry-run` of the commands over parts of a run, against their work written out."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentdc import cli, config
from latentdc.cost import Hardware, stages
from latentdc.cost.commands import describe_sweep
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Experts, PriorSettings, Prune, Recipe, Sampling, Scorer
from latentdc.recipe.prior_training import PriorRecipe, Terms, UNetTraining
from latentdc.synthetic import SyntheticSet
from tests.cost.test_stages import CLASSES, CONVNET, PIXEL, STEP, TEST, TRAIN, of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Lines of a dry run by quantity, and nothing is written by it."""
    monkeypatch.chdir(tmp_path)
    recipe = replace(PIXEL, data=replace(PIXEL.data, cache=str(tmp_path / "cache")))
    config.save(recipe, tmp_path / "mine.yaml")

    def run(command: str, *words: str) -> dict[str, str]:
        before = sorted(tmp_path.rglob("*"))
        cli.main([command, *words, "--dry-run"])
        assert sorted(tmp_path.rglob("*")) == before
        lines = capsys.readouterr().out.splitlines()
        return {name: text.strip() for name, text in (line.split(":", 1) for line in lines)}

    return run


def work(text: str) -> float:
    """Multiply-adds that a line begins with."""
    number, unit = re.match(r"([\d.e+-]+) (\w*)MAC", text).groups()
    return float(number) * 1000.0 ** ["", "k", "M", "G", "T", "P"].index(unit)


def size(text: str) -> float:
    """The first number of bytes in a line."""
    number, unit = re.search(r"([\d.e+-]+) ([kMGT]?)B\b", text).groups()
    return float(number) * 1000.0 ** ["", "k", "M", "G", "T"].index(unit)


def test_pruning_is_counted_as_in_a_run(told):
    words = ["prune.keep=0.5", "prune.score=el2n", "prune.scorer.network=convnet3@8"]
    lines = told("prune", "mine.yaml", *words)
    assert lines["scoring"] == of(config.load(Recipe, Path("mine.yaml"), words))["scoring"].line()
    assert {*lines} >= {"opening", "total work", "disk"} and "evaluating convnet3@8" not in lines
    assert told("prune", "mine.yaml")["scoring"].startswith("0 MAC (all images are kept)")


def test_the_report_of_a_pruning_scores_although_all_images_are_kept(told):
    pytest.importorskip("matplotlib")
    report = told("prune", "mine.yaml", "--report", "out", "prune.scorer.network=convnet3@8")
    assert work(report["scoring"]) > 0


def saved_set(folder: Path, ipc: int) -> None:
    labels = torch.arange(CLASSES).repeat_interleave(ipc)
    images = torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8)
    names = tuple(str(digit) for digit in range(CLASSES))
    SyntheticSet(images, labels, names).save_pretrained(folder)


def test_an_evaluation_counts_the_images_that_the_set_has(told, tmp_path):
    saved_set(tmp_path / "set", 2)
    lines = told("evaluate", "set", "--recipe", "mine.yaml")
    line = lines["evaluating convnet3@8, 20 images"]
    assert work(line) == pytest.approx(2 * 2 * (10 * 20 * STEP + TEST * CONVNET), rel=0.01)
    assert "2 seeds of 2 rows, each trained on 200 images and tested on 360" in line
    saved_set(tmp_path / "other", 4)
    both = told("evaluate", "set", "other", "--recipe", "mine.yaml", "evaluate.rows=[random,full]")
    small, large = (both[f"evaluating convnet3@8, {count} images"] for count in (20, 40))
    assert "of 3 rows" in small and "of 2 rows" in large, "all real images are trained on once"


def test_of_a_set_of_others_ipc_says_how_many_images_it_has(told, tmp_path):
    torch.save({"images": torch.zeros(20, 3, 8, 8), "labels": torch.arange(20) % 10}, "set.pt")
    lines = told("evaluate", "set.pt", "--recipe", "mine.yaml")
    assert lines["evaluating"] == "unknown (images of set.pt are counted as it is read)"
    assert "evaluating convnet3@8, 10 images" in told(
        "evaluate", "set.pt", "--recipe", "mine.yaml", "--ipc", "1"
    )


def test_damaged_rows_are_one_line(told, tmp_path, capsys):
    (tmp_path / "coreset.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SystemExit) as end:
        told("evaluate", "coreset.parquet", "--recipe", "mine.yaml")
    line = capsys.readouterr().err
    assert end.value.code == 2 and "cannot read coreset.parquet: " in line.replace("./", "")
    assert Coreset is not None and line.count("\n") == 1


def test_measuring_counts_the_network_and_the_students_of_increments(told, tmp_path):
    saved_set(tmp_path / "set", 4)
    words = ["set", "--recipe", "mine.yaml", "--network", "convnet3@8", "--epochs", "3"]
    lines = told("measure", *words, "--redundancy", "2", "--kid")
    looked = TEST + 2 * 40
    expected = 3 * TRAIN * STEP + looked * CONVNET
    assert work(lines["network"]) == pytest.approx(expected, rel=0.01)
    expected = 2 * 2 * (10 * 20 * STEP + 2 * 20 * CONVNET)
    assert work(lines["redundancy"]) == pytest.approx(expected, rel=0.01)
    assert lines["kid"].startswith("unknown") and lines["total work"].startswith("at least")


def test_a_prior_costs_its_steps_and_has_the_parameters_of_its_card(told):
    lines = told("train-prior", str(ROOT / "recipes/priors/digits.yaml"))
    facts = json.loads((ROOT / "assets/priors/digits/training.json").read_text())
    autoencoder, unet, embedding = facts["parameters"]
    first, second = lines["training autoencoder"], lines["training UNet"]
    assert f"({autoencoder:,} parameters, {facts['steps'][0]:,} steps" in first
    assert f"({unet + embedding:,} parameters, {facts['steps'][1]:,} steps" in second
    assert lines["encoding"].endswith("(1,437 images)")


def test_a_prior_that_goes_on_trains_no_autoencoder_and_a_term_doubles_the_unet(told, tmp_path):
    config.save(PriorRecipe(data=replace(PIXEL.data, resolution=16)), tmp_path / "prior.yaml")
    plain = told("train-prior", "prior.yaml")
    more = told("train-prior", "prior.yaml", "unet.terms.inversion=0.1")
    assert UNetTraining().terms == Terms()
    ratio = work(more["training UNet"]) / work(plain["training UNet"])
    assert ratio == pytest.approx(2, rel=0.02)
    assert size(more["training UNet"]) > 1.5 * size(plain["training UNet"])  # activations of both
    further = told("train-prior", "prior.yaml", "--from", "digits")
    assert "training autoencoder" not in further and "training UNet" in further


def test_the_latents_that_terms_of_a_prior_remember_take_memory_and_disk(told, tmp_path):
    config.save(PriorRecipe(data=replace(PIXEL.data, resolution=16)), tmp_path / "prior.yaml")
    terms = ["unet.terms.diversity=0.1", "unet.terms.memory=5000", "unet.batch=8"]
    plain, more = (
        told("train-prior", "prior.yaml", "unet.batch=8"),
        told("train-prior", "prior.yaml", *terms),
    )
    values = 4 * 8 * 8
    bank = 2 * CLASSES * 5000 * values * 4  # real and predicted
    step = 2 * 8 * 5000 * values * 4  # those of the classes of a batch
    found = size(more["training UNet"]) - size(plain["training UNet"])
    assert found == pytest.approx(bank + step, rel=0.1)
    disk = size(more["disk"]) - size(plain["disk"])
    assert disk == pytest.approx(2 * bank, rel=0.1)
    assert work(more["training UNet"]) > work(plain["training UNet"])


def test_a_sweep_counts_each_missing_run_and_what_they_share_once(told, tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "recipe: mine.yaml\naxes:\n  ipc:\n    one: [ipc=1]\n    two: [ipc=2]\n"
    )
    lines = told("sweep", "grid.yaml")
    assert lines["cells"] == "2, each a run of its own; 0 of the runs are finished"
    assert "(all 2 of them together, memory of one)" in lines["evaluating convnet3@8"]
    cells = [config.load(Recipe, tmp_path / "mine.yaml", [f"ipc={n}"]) for n in (1, 2)]
    name = "evaluating convnet3@8"
    each = [{stage.name: stage for stage in stages(cell)} for cell in cells]
    assert work(lines[name]) == pytest.approx(sum(one[name].work for one in each), rel=0.01)
    assert lines["opening"] == each[0]["opening"].line()
    only = told("sweep", "grid.yaml", "--only", "ipc=two")
    assert only["cells"].startswith("1, each") and only[name] == each[1][name].line()
    assert "none is missing" in describe_sweep([], 2, 2, Hardware())
    assert "2, which share 1 run; 1 of" in describe_sweep([], 1, 2, Hardware())
    (tmp_path / "seeds.yaml").write_text(
        "recipe: mine.yaml\noverrides: [prune.keep=0.5]\n"
        "axes:\n  set: {one: [], two: [seed=1]}\n  ipc: {one: [ipc=1], two: [ipc=2]}\n"
    )
    assert "all 2 of them" in told("sweep", "seeds.yaml")["scoring"]  # each seed has a scorer
    mosaics = ["method.kind=rded", "prune.keep=1", "prune.scorer.network=convnet3@8"]
    asks = told("sweep", "seeds.yaml", *mosaics)
    assert "all 2 of them" in asks["classifier"] and "all 4 of them" in asks["classifying"]


def test_a_sweep_counts_snapshots_of_one_training_once():
    """Numbers of experts and of their epochs are none of theirs."""
    influence = {"scale": 1.0, "network": "convnet3@8", "epochs": [1, 3]}
    recipe = replace(
        PIXEL,
        method=replace(PIXEL.method, kind="sampling"),
        prior=PriorSettings(weights="nobody/nothing"),
        sampling=Sampling(influence=influence),
    )
    cells = [
        replace(recipe, ipc=1 + n, experts=Experts(count=1 + n, epochs=5 + n)) for n in range(2)
    ]
    slower = [*cells, replace(recipe, experts=Experts(lr=0.02))]

    one = 3 * TRAIN * STEP
    assert shared("snapshots", *cells) == pytest.approx(one, rel=0.01)
    assert shared("snapshots", *slower) == pytest.approx(2 * one, rel=0.01)


def shared(name: str, *cells: Recipe) -> float:
    """Work of a stage of a sweep over these cells."""
    lines = describe_sweep(cells, 0, len(cells), Hardware()).splitlines()
    return work(next(line for line in lines if line.startswith(name)).split(":")[1].strip())


def test_a_sweep_scores_and_teaches_anew_for_other_images_and_teachers():
    scorer, white = Scorer(network="convnet3@8"), (0.5, 0.5, 0.5)
    scored = replace(PIXEL, prune=Prune(keep=0.5, scorer=scorer))
    other = replace(scored, data=replace(scored.data, mean=white))
    once = of(scored)["scoring"].work
    assert shared("scoring", scored, replace(scored, ipc=1)) == pytest.approx(once, rel=0.01)
    assert shared("scoring", scored, other) == pytest.approx(2 * once, rel=0.01)
    lines = describe_sweep([scored, other], 0, 2, Hardware())
    assert "of them" not in next(one for one in lines.splitlines() if one.startswith("opening"))

    def taught(lr: float) -> Recipe:
        teachers = f"[{{network: convnet3@8, epochs: 4, lr: {lr}}}]"
        changes = [f"labels={{source: online, loss: kl, teachers: {teachers}}}", "augment=null"]
        evaluate = replace(PIXEL.evaluate, changes=[*changes, "views.flip=true"])
        return replace(PIXEL, evaluate=evaluate)

    once = of(taught(0.1))["teachers"].work
    assert shared("teachers", taught(0.1), replace(taught(0.1), seed=1)) == pytest.approx(
        once, rel=0.01
    )
    assert shared("teachers", taught(0.1), taught(0.2)) == pytest.approx(2 * once, rel=0.01)


def test_a_sweep_counts_the_experts_of_a_folder_once():
    objective = replace(PIXEL.objective, kind="mtt")
    two, five, slow = (
        replace(PIXEL, objective=objective, experts=Experts(count=count, epochs=20, lr=lr))
        for count, lr in ((2, 0.01), (5, 0.01), (2, 0.02))
    )
    one = 20 * TRAIN * STEP
    assert shared("experts", two, five, replace(two, ipc=1)) == pytest.approx(5 * one, rel=0.01)
    assert shared("experts", two, slow) == pytest.approx(4 * one, rel=0.01)


def test_a_sweep_counts_real_images_as_often_as_they_are_trained_on(told, tmp_path):
    """`random` once for each ipc, `full` once; beside them the cells' own rows."""
    (tmp_path / "grid.yaml").write_text(
        "recipe: mine.yaml\n"
        "overrides: ['evaluate.rows=[distilled,random,coreset,full]', prune.keep=0.5]\n"
        "axes:\n"
        "  ipc: {one: [ipc=1], two: [ipc=2]}\n"
        "  rate: {slow: [distill.lr_z=1], fast: [distill.lr_z=2]}\n"
        "  kept: {easy: [], hard: [prune.order=hard]}\n"
    )
    name = "evaluating convnet3@8"
    once = {n: 2 * (10 * CLASSES * n * STEP + TEST * CONVNET) for n in (1, 2)}  # of ten steps
    own, random, coreset = 4 * sum(once.values()), sum(once.values()), 2 * sum(once.values())
    real = 2 * (10 * 64 * STEP + TEST * CONVNET)  # batches of 64
    lines = told("sweep", "grid.yaml")
    assert work(lines[name]) == pytest.approx(own + random + coreset + real, rel=0.01)
    few = told("sweep", "grid.yaml", "evaluate.rows=[random]")
    assert work(few[name]) == pytest.approx(random, rel=0.01)


def test_every_command_that_takes_minutes_has_a_dry_run():
    names = {name for name, command in cli.COMMANDS.items() if command.dry_run}
    assert names == {
        *("distill", "sweep", "prune", "experts", "evaluate", "verify", "measure", "train-prior"),
    }
