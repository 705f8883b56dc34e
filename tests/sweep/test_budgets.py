"""A sweep says before its first run which of its cells the data does not allow."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from latentdc.data.dataset import Dataset
from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.recipe import Prune
from latentdc.sweep import run as sweep_run
from latentdc.sweep.__main__ import main
from latentdc.sweep.spec import Sweep, expand
from latentdc.synthetic import SyntheticSet
from tests.synthetic.foreign.layouts import named

GRID = """
recipe: digits_ipc1
overrides: [data.resolution=8, prior.kind=pixel, prior.weights=null, threads=1]
axes:
  ipc:
    ipc 1: [ipc=1]
    ipc 10: [ipc=10]
  kept:
    100 %: [prune.keep=1.0]
    5 %: [prune.keep=0.05]
"""


def test_a_cell_that_keeps_too_few_images_stops_the_sweep_before_its_first_run(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.setattr(sweep_run, "run", lambda *_, **__: pytest.fail("begun"))
    with pytest.raises(SystemExit) as stop:
        main(["grid.yaml"])
    _, error = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert "cell ipc 10/5 %: ipc=10 is above the smallest class of the core set: '" in error
    assert "has 7 images (exact repeats count once); lower ipc" in error


def test_data_that_cells_share_is_opened_once_and_budgets_of_other_kinds_are_checked(
    tmp_path, monkeypatch
):
    opened, original = [], sweep_run.open_used

    def open_one(data, tests):
        opened.append(tests)
        return original(data, tests)

    monkeypatch.setattr(sweep_run, "open_used", open_one)
    axes = {
        "ipc": {"1": ["ipc=1"], "8": ["ipc=8"]},
        "kept": {"60 %": ["evaluate.rows=[]"], "9 %": ["prune.keep=0.09"]},
    }
    sweep = Sweep(recipe="digits_ipc1", axes=axes)
    cells = expand(sweep, ["data.resolution=8"], check=check)
    sweep_run.check_cells(cells, {}, tmp_path, Accelerator())
    assert opened == [True]
    first = next(iter(cells.values()))
    for prune, message in (
        (Prune(count=1000), r"cell a: prune\.count keeps 1000 images of each class"),
        (Prune(count=5, scope="global"), "cell a: the budget is 5 of 1437 images"),
    ):
        with pytest.raises(InputError, match=message):
            cell = {("a",): replace(first, prune=prune)}
            sweep_run.check_cells(cell, {}, tmp_path, Accelerator())


LATER = {  # a later cell's changes, and what its run would say
    "a prior that is not there": (
        ["prior={kind: autoencoder, weights: ./none}"],
        "the prior ./none",
    ),
    "a pool that is not there": (
        ["method.kind=selection", "selection.pool=./none"],
        "no synthetic set './none'",
    ),
    "a pool of other classes that an earlier cell made": (
        ["method.kind=selection", "selection.pool=runs/grid/pool"],
        "class",
    ),
    "a core set that is none": (["prune.coreset=other.safetensors"], "cannot read the core set"),
    "weights of another teacher": (
        [
            "evaluate.protocol=sre2l-kd",
            "evaluate.students=[convnet3@4]",
            'evaluate.changes=["labels.teachers=[{network: convnet3@4, weights: '
            'other.safetensors}]"]',
        ],
        "other.safetensors does not fit convnet3@4",
    ),
    "scores of other images": (["prune={scores: few.csv, keep: 0.5}"], "few.csv has 2 rows"),
    "weights of another scorer": (
        ["prune={keep: 0.5, scorer: {network: convnet3@4, weights: other.safetensors}}"],
        "other.safetensors does not fit convnet3@4",
    ),
    "more groups than hours compare": (
        ["prune={keep: 0.5, score: s3, rules: {groups: 200000}}"],
        "lower prune.rules.groups",
    ),
    "few random images": (
        ["ipc=500", "distill.init=noise", "evaluate.rows=[distilled,random]"],
        "a random row of ipc 500 needs as",
    ),
    "a share of steps": (
        [
            "data.resolution=16",
            "prior={kind: diffusion, weights: digits, steps: 2}",
            "objective={kind: denoise, denoise: {share: 0.1}}",
        ],
        "leaves no step above the cleanest one",
    ),
    "another precision": (["precision=bf16"], "but Accelerate runs in no"),
    "data without test images": (["data.source=tree"], "tree has none of the test splits"),
}


@pytest.mark.parametrize("case", LATER)
def test_what_a_later_run_would_refuse_stops_the_sweep_before_its_first(
    case, tmp_path, monkeypatch, capsys
):
    changes, told = LATER[case]
    monkeypatch.chdir(tmp_path)
    save_file({"weight": torch.zeros(2)}, "other.safetensors")
    (tmp_path / "few.csv").write_text("loss\n1\n2\n")
    named(tmp_path / "tree" / "train", ["cat", "dog"], ipc=2)
    pool = Dataset.from_folder(tmp_path / "tree" / "train", resolution=8)
    SyntheticSet.from_real(pool).save_pretrained(tmp_path / "runs" / "grid" / "pool")
    axes = {"what": {"as is": [], "later": changes}}
    overrides = ["data.resolution=8", "prior.kind=pixel", "prior.weights=null", "threads=1"]
    text = {"recipe": "digits_ipc1", "overrides": overrides, "axes": axes}
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    monkeypatch.setattr(sweep_run, "run", lambda *_, **__: pytest.fail("begun"))
    with pytest.raises(SystemExit, match="2"):
        main(["grid.yaml"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error: cell later" in error and told in error


def test_a_set_that_an_earlier_cell_will_make_is_not_looked_for_even_behind_a_link(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to("disk")
    chosen = ["method.kind=selection", f"selection.pool={tmp_path}/disk/grid/pool"]
    axes = {"what": {"pool": [], "chosen": chosen}}
    overrides = ["data.resolution=8", "prior.kind=pixel", "prior.weights=null", "threads=1"]
    text = {"recipe": "digits_ipc1", "overrides": overrides, "axes": axes}
    (tmp_path / "grid.yaml").write_text(json.dumps(text))
    monkeypatch.setattr(sweep_run, "run", lambda *_, **__: pytest.fail("begun"))
    with pytest.raises(pytest.fail.Exception, match="begun"):
        main(["grid.yaml"])
