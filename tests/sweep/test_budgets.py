"""A sweep says before its first run which of its cells the data does not allow."""

from dataclasses import replace

import pytest
from accelerate import Accelerator

from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.recipe import Prune
from latentdc.sweep import run as sweep_run
from latentdc.sweep.__main__ import main
from latentdc.sweep.spec import Sweep, expand

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
    assert "keeps 7 images; skip this cell" in error


def test_data_that_cells_share_is_opened_once_and_budgets_of_other_kinds_are_checked(monkeypatch):
    opened, original = [], sweep_run.open_dataset

    def open_one(data, split):
        opened.append(split)
        return original(data, split)

    monkeypatch.setattr(sweep_run, "open_dataset", open_one)
    axes = {
        "ipc": {"1": ["ipc=1"], "8": ["ipc=8"]},
        "kept": {"60 %": [], "9 %": ["prune.keep=0.09"]},
    }
    sweep = Sweep(recipe="digits_ipc1", axes=axes)
    cells = expand(sweep, ["data.resolution=8"], check=check)
    sweep_run.check_cells(cells, {}, Accelerator())
    assert opened == ["train"]
    first = next(iter(cells.values()))
    for prune, message in (
        (Prune(count=1000), r"cell a: prune\.count keeps 1000 images of each class"),
        (Prune(count=5, scope="global"), "cell a: the budget is 5 of 1437 images"),
    ):
        with pytest.raises(InputError, match=message):
            sweep_run.check_cells({("a",): replace(first, prune=prune)}, {}, Accelerator())
    brought = {("a",): replace(first, ipc=10**4, prune=Prune(coreset="c.parquet"))}
    sweep_run.check_cells(brought, {}, Accelerator())
