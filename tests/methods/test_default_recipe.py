"""The recipe of the README, shortened: everything that a run leaves behind."""

import io
import json
import re
from contextlib import redirect_stdout

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from latentdc import config
from latentdc.data.open import open_dataset
from latentdc.distill import main
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Data, Recipe
from latentdc.results.result import load
from latentdc.synthetic import SyntheticSet

SHORT = [
    "distill.steps=3",
    "distill.checkpoint_every=2",
    "distill.grid_every=3",
    "prune.scorer.epochs=1",
    "prune.scorer.lr=0.1",
    "evaluate.students=[convnet3@8, alexnet@8]",
    "evaluate.seeds=2",
    "evaluate.steps=3",
    "threads=1",
]
ROWS = ["distilled", "random", "coreset", "full"]
FILES = {
    "recipe.yaml",
    "coreset.parquet",
    "scores.parquet",
    "metrics.jsonl",
    "results.json",
    "report.html",
    "grid.png",
    "grids/step-00000003.png",
    *(
        f"checkpoints/step-0000000{step}/{name}"
        for step in (2, 3)
        for name in (
            *("state.json", "checksums.json"),
            *("process-0000-0000.safetensors", "objective.safetensors"),
        )
    ),
    "synthetic/README.md",
    "synthetic/data/train-00000-of-00001.parquet",
    "synthetic/latents.safetensors",
    "synthetic/provenance.json",
    "synthetic/recipe.yaml",
    "synthetic/results.json",
    "synthetic/grid.png",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder, and what the run printed."""
    if not (config.shipped_folder("assets/priors") / "digits").is_dir():
        pytest.skip("the prior of the digits is not shipped yet")
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with redirect_stdout(io.StringIO()) as printed:
            main(["digits_ipc1", *SHORT])
    return folder / "runs" / "digits_ipc1", printed.getvalue()


def test_the_run_folder_is_complete(run):
    folder, _ = run
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    rows = {path for path in files if path.startswith("trainings/")}
    assert files - rows == FILES
    assert len(rows) == len(ROWS) * 2 * 2  # two students, two seeds
    recipe = config.load(Recipe, folder / "recipe.yaml")
    assert recipe == config.load(Recipe, config.find("digits_ipc1", "recipes"), SHORT)
    state = json.loads((folder / "checkpoints/step-00000003/state.json").read_text())
    assert (state["step"], state["processes"], state["threads"]) == (3, 1, 1)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [0, 1, 2]
    assert all(step["loss"] > 0 for step in steps)


def test_the_core_set_is_the_easy_part_of_the_training_digits(run):
    kept = Coreset.load(run[0] / "coreset.parquet")
    train = open_dataset(Data(), "train")
    assert (kept.rule, kept.order, kept.keep) == ("loss", "easy", 0.6)
    shares = train.labels[kept.indices(train)].bincount() / train.labels.bincount()
    torch.testing.assert_close(shares, torch.full((10,), 0.6), atol=0.005, rtol=0)


def test_the_table_has_every_row_with_mean_and_spread(run):
    folder, printed = run
    assert "mean ± sample std over 2 seeds, ipc 1, protocol quick (" in printed
    size, number = r" +[\d,-]+", r" +\d+\.\d ± \d+\.\d"
    for row in ROWS:
        assert re.search(rf"^{row}{size}{number}{number}$", printed, re.MULTILINE), printed
    assert f"results: {folder.relative_to(folder.parents[1])}/results.json" in printed
    assert f"grid: {folder.relative_to(folder.parents[1])}/grid.png" in printed


def test_the_results_carry_the_protocol_and_every_accuracy(run):
    folder, _ = run
    results = load(folder / "results.json")
    assert results == load(folder / "synthetic" / "results.json")
    assert [(one.set, one.student) for one in results] == [
        (name, student) for name in ROWS for student in ("convnet3@8", "alexnet@8")
    ]
    for one in results:
        assert (one.protocol, one.steps, one.ipc, len(one.accuracies)) == ("quick", 3, 1, 2)
        assert one.unseen == (one.student == "alexnet@8")


def test_the_set_opens_with_datasets_and_with_latentdc(run, tmp_path):
    folder = run[0] / "synthetic"
    table = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    assert table.features["label"].names == [str(digit) for digit in range(10)]
    assert table["label"] == list(range(10))
    made = SyntheticSet.from_pretrained(run[0])
    assert made.z.shape == made.noise.shape == (10, 4, 8, 8) and made.c.shape == (10, 1, 64)
    first = torch.from_numpy(np.array(table[0]["image"]))
    assert torch.equal(first.permute(2, 0, 1), made.images[0])
    assert made.provenance["prior"] == "diffusion" and made.provenance["steps"] == 3


def test_nothing_that_is_shared_names_a_folder_of_this_machine(run):
    folder = run[0] / "synthetic"
    for name in ("README.md", "recipe.yaml", "provenance.json"):
        assert str(run[0].parents[1]) not in (folder / name).read_text()


def test_the_pictures_show_ten_digits(run):
    with (
        Image.open(run[0] / "grid.png") as last,
        Image.open(run[0] / "grids/step-00000003.png") as at,
    ):
        assert last.size == at.size and last.width > 10 * 64
        assert last.tobytes() == at.tobytes() and len(set(last.convert("L").tobytes())) > 50
