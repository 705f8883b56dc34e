"""One training of all processes, of students, teachers and experts."""

import json

import pytest
import torch
from accelerate import Accelerator

from latentdc.evaluate import evaluate, training
from tests.evaluate.two_divided import Trained, carry_out, expert
from tests.processes import run_two


@pytest.mark.slow
def test_two_processes_train_together_what_one_does_alone(tmp_path, monkeypatch, capfd):
    for module in (evaluate, training):
        monkeypatch.setattr(module, "train_together", module.train_together)
    run_two("tests.evaluate.two_divided", tmp_path / "two")
    said = capfd.readouterr().err
    for what in ("student convnet3@4 with seed 0", "teacher convnet3@4"):
        assert said.count(f"the {what} is trained by all 2 processes, which divide each ") == 1
    assert said.count("note: expert 0 of convnet3@4 is trained by all 2 processes") == 1
    assert "; batch norm and draws such as dropout act on the share of a process." in said
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt") for rank in (0, 1))
    assert first["accuracies"] == second["accuracies"]
    trained = Trained()
    alone = carry_out(Accelerator(), tmp_path / "one")
    assert trained.keys() == first["trained"].keys() and len(trained) == 11
    for name, expected in trained.items():
        for key, value in expected.items():
            one, two = first["trained"][name][key], second["trained"][name][key]
            assert torch.equal(one, two) or "running" in key, (name, key)
            if "-bn" not in name:
                torch.testing.assert_close(one, value, rtol=1e-4, atol=1e-5)
    for key, value in expert(tmp_path / "one").items():
        torch.testing.assert_close(expert(tmp_path / "two")[key], value, rtol=1e-4, atol=1e-5)
    trained.clear()
    again = carry_out(Accelerator(), tmp_path / "two")
    depend = [name.split()[0].partition("#")[0] for name in trained]
    assert depend == ["tests.evaluate.toys:Idle"] * 2 + ["convnet3-bn@4"] * 2, "shares count"
    assert again[:6] == first["accuracies"][:6] and again[6:] == alone[6:]


@pytest.mark.slow
def test_a_continued_evaluation_divides_what_a_whole_one_does_and_one_process_tells(tmp_path):
    run_two("tests.evaluate.two_continued", tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.txt").read_text()) for rank in (0, 1))
    assert first["whole"] == first["continued"] == second["continued"]
    assert first["missing"] == 1 and len({*first["whole"]}) > 1
    assert first["told"] == [0, 1, 2] and second["told"] == [], "of the divided one"
    assert first["losses"][0] == pytest.approx(first["expected"], rel=1e-4), "of a share"
