"""Two real processes over gloo compute what one does."""

import json

import pytest
import torch
from accelerate import Accelerator

from tests.methods import setup
from tests.methods.test_loop import TotalVariance
from tests.methods.two_processes import TRIM, first_gradient
from tests.processes import run_two

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run_two("tests.methods.two_processes", folder)
    return folder


@pytest.mark.parametrize("kind", ["dm", "dc", "mtt", "set"])
def test_gradients_of_the_first_step_are_those_of_one_process(two, kind):
    objective = TotalVariance() if kind == "set" else setup.objective(kind)
    whole = first_gradient(Accelerator(), objective)
    parts = [torch.load(two / f"gradients-{i}.pt")[kind] for i in range(2)]
    for index, expected in enumerate(whole):
        together = torch.cat([part[index] for part in parts])
        torch.testing.assert_close(together, expected, atol=1e-4, rtol=1e-4)


def test_latents_after_ten_steps_are_those_of_one_process(two):
    made, alone = torch.load(two / "made.pt"), setup.run()
    torch.testing.assert_close(made["z"], alone.z, atol=1e-4, rtol=0)
    torch.testing.assert_close(made["c"], alone.c, atol=1e-4, rtol=0)
    assert (made["images"].int() - alone.images.int()).abs().max() <= 1


def test_a_student_that_learns_on_the_way_is_the_same_in_all_processes(two):
    # Rounding grows in a student that trains: images 1e-7 apart end 1e-5 apart after two steps and
    # 4e-4 after five.
    alone = setup.run(kind="dc loops", steps=2, trim=TRIM)
    torch.testing.assert_close(torch.load(two / "trained.pt")["z"], alone.z, atol=1e-4, rtol=0)


def test_one_process_continues_the_run_of_two(two):
    continued, alone = setup.run(two / "half"), setup.run()
    torch.testing.assert_close(continued.z, alone.z, atol=1e-4, rtol=0)


def test_mini_batches_of_classes_do_not_depend_on_processes(two):
    some, alone = torch.load(two / "some.pt"), setup.run(classes_per_step=2)
    continued = setup.run(two / "half of some", classes_per_step=2)
    for part in ("z", "c"):
        torch.testing.assert_close(some[part], getattr(alone, part), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            getattr(continued, part), getattr(alone, part), atol=1e-4, rtol=0
        )
    assert (some["images"].int() - alone.images.int()).abs().max() <= 1
    assert torch.equal(torch.load(two / "mapped.pt"), some["images"])
    assert (two / "some/grids/step-00000010.png").is_file()
    assert not (two / "some/decoded.bin").exists()
    assert (alone.z - setup.run().z).abs().max() > 1e-2, "it is not the run over all classes"


def test_batches_are_trimmed_alike_whatever_the_processes(two):
    options = {"trim": TRIM, "classes_per_step": 2}
    alone, trimmed = setup.run(two / "trimmed alone", **options), torch.load(two / "trimmed.pt")
    torch.testing.assert_close(trimmed["z"], alone.z, atol=1e-4, rtol=0)
    continued = setup.run(two / "half of trimmed", **options)
    torch.testing.assert_close(continued.z, alone.z, atol=1e-4, rtol=0)
    lines = [
        [json.loads(line)["trimmed"] for line in (two / name).read_text().splitlines()]
        for name in ("trimmed/metrics.jsonl", "trimmed alone/metrics.jsonl")
    ]
    assert lines[0] == pytest.approx(lines[1], abs=1e-3) and max(lines[0]) > 0


def test_what_the_main_process_refuses_all_processes_refuse(two):
    told = [(two / f"refusal-{index}.txt").read_text() for index in range(2)]
    assert told == ["found by the main process"] * 2
