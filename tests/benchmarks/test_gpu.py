"""What only a GPU can tell: the command in small, and the page that is made of it."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_page import KEPT, NOTHING, PAGE, published
from latentdc.priors.memory import Plan

ROOT = Path(__file__).parents[2]
PARTS = [
    *("unet step", "transformer step", "evaluation", "stacked", "scoring"),
    *("precision", "resume", "prior", "compile"),
]


def measured(**changes) -> dict:
    rows = [{"way": "released", "s per step": 2.0}, {"way": "fast", "fits": True, "s per step": 1}]
    parts = {
        "step": {"title": "A step", "rows": rows, "ended": "whole"},
        "resume": {"title": "Resumed", "rows": [], "ended": "stopped after 35 s"},
    }
    machine = {"device": "cuda (H100)", "torch": "2.14", "commit": "abc"}
    return {"tiny": False, "machine": machine, "parts": parts} | changes


def test_the_page_holds_what_was_measured_and_nothing_else():
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else None
    page = PAGE.read_text()
    assert page == published(page, kept)
    assert (NOTHING in page) == (kept is None)


def test_tables_are_made_of_a_measurement():
    before = PAGE.read_text()
    page = published(before, measured())
    assert "| way | s per step | fits |\n| --- | --- | --- |\n| released | 2 |  |" in page
    assert "| fast | 1 | yes |" in page and NOTHING not in page
    assert "### Resumed\n\nNo row.\n\nNot measured whole: stopped after 35 s." in page
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else None
    assert published(page, kept) == before


@pytest.mark.parametrize("changes", [{"tiny": True}, {"machine": {"device": "cpu (a)"}}])
def test_what_says_nothing_of_gpus_is_not_published(changes):
    with pytest.raises(SystemExit, match="not published"):
        published(PAGE.read_text(), measured(**changes))


@pytest.mark.slow
def test_all_parts_run_in_small_and_a_cut_run_goes_on(tmp_path):
    def run(*options: str) -> dict:
        command = [sys.executable, "benchmarks/gpu.py", "--tiny", f"--out={tmp_path}", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "gpu.json").read_text())["parts"]

    cut = run("--minutes=0.5")
    assert list(cut) == PARTS and cut["compile"]["ended"] == "not begun"
    whole = run()
    assert {name: part["ended"] for name, part in whole.items()} == dict.fromkeys(PARTS, "whole")
    assert all(row["within 1e-3"] for row in whole["resume"]["rows"])
    assert run() == whole


def test_a_part_that_is_cut_earlier_than_before_keeps_what_it_had(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu = importlib.import_module("gpu")
    counts = iter([2, 1, 3])

    def rows(scale):
        count = next(counts)
        yield from ({"row": row, "of": count} for row in range(count))
        if count < 3:
            raise gpu.TimeUp

    monkeypatch.setattr(gpu, "PARTS", {"part": gpu.Part("A part", rows, 60)})
    scale = gpu.Scale(torch.device("cpu"), tmp_path, tiny=True)

    def measured() -> tuple[list[int], str]:
        gpu.measure(scale, tmp_path / "gpu.json", 60)
        part = json.loads((tmp_path / "gpu.json").read_text())["parts"]["part"]
        return [row["of"] for row in part["rows"]], part["ended"].split()[0]

    assert measured() == ([2, 2], "stopped")
    assert measured() == ([2, 2], "stopped")  # one row is less than two
    assert measured() == ([3, 3, 3], "whole")


def test_counts_are_those_of_every_way(monkeypatch):
    """Of the same plan, whatever its precision, layout and chunk."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    real_size, models = (importlib.import_module(name) for name in ("real_size", "models"))
    macs = importlib.import_module("measure").macs
    model, cpu = replace(models.MODELS["DiT/tiny"], resolution=64, steps=2), torch.device("cpu")
    for way in (real_size.Way(Plan("low", 1), "bf16"), real_size.Way(Plan("fast"), "bf16")):
        found = real_size.counted(way.plan, model, 2, cpu)
        assert found == macs(real_size.prepared(way, model, 2, cpu)) > 0


def test_a_way_that_breaks_says_so_and_leaves_the_others(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    real_size = importlib.import_module("real_size")

    def breaks(way, *_):
        if way.channels_last:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED\nand a page of text")
        return {"s per step": 1.0}

    monkeypatch.setattr(real_size, "_measured", breaks)
    ways = list(real_size.ways(2, 10))
    rows = list(real_size.measured("toy", None, ways, 2, torch.device("cpu")))
    broken = [row for row in rows if row["s per step"] is None]
    assert [row["told"] for row in broken] == [
        "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"
    ]
    assert len(rows) == len(ways) and rows[-1]["s per step"] == 1.0


def test_a_count_that_does_not_fit_leaves_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    real_size, models = (importlib.import_module(name) for name in ("real_size", "models"))
    model = replace(models.MODELS["DiT/tiny"], resolution=64, steps=2)

    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(real_size, "counted", too_large)
    ways = [real_size.Way(Plan("fast"))]
    [row] = real_size.measured("toy", model, ways, 1, torch.device("cpu"))
    assert row["s per step"] > 0 and row["peak GB"] > 0 and "told" not in row
    assert row["TFLOP/s"] is row["of a matrix product's"] is None
