"""One training of all processes, of students, teachers and experts."""

import pytest
import torch
from accelerate import Accelerator

from latentdc.evaluate import evaluate, teachers
from tests.evaluate.two_divided import Trained, carry_out, expert
from tests.processes import run_two


@pytest.mark.slow
def test_two_processes_train_together_what_one_does_alone(tmp_path, monkeypatch, capfd):
    for module in (evaluate, teachers):
        monkeypatch.setattr(module, "train_student", module.train_student)
    run_two("tests.evaluate.two_divided", tmp_path / "two")
    said = capfd.readouterr().err
    for what in ("student convnet3@4 with seed 0", "teacher convnet3@4"):
        assert said.count(f"the {what} is trained by all 2 processes, which divide each ") == 1
    assert said.count("note: expert 0 of convnet3@4 is trained by all 2 processes") == 1
    assert said.count("; batch norm and dropout act on the share of a process.") == 1
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
    assert [name.split()[0] for name in trained] == ["convnet3-bn@4"] * 2, "statistics of shares"
    assert again[:8] == first["accuracies"][:8] and again[8:] == alone[8:]
