"""Run by torchrun from test_divided: an evaluation that lost a file, and a divided one."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn import functional as F

from latentdc import divided
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.steps import training_steps
from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.synthetic import SyntheticSet
from tests.evaluate.toys import TEST, protocol, stripes
from tests.processes import end

TRAIN = stripes(9, seed=3)
NORMED = protocol(students=["convnet3-bn@4"], seeds=3, steps=10, lr=0.1)
PLAIN = protocol(seeds=1, steps=3, batch=9)  # shares of 4 and 5


def first_loss() -> float:
    """Mean loss of the main process's share of the first batch."""
    student = new_network("convnet3@4", "student", seed=0, num_classes=3, resolution=8)
    step = next(iter(training_steps(SyntheticSet.from_real(TRAIN), PLAIN, 0, join=False)))
    rows = step.batch.rows[:4]
    seen = Normalization()(TRAIN.images[rows].float() / 127.5 - 1)
    return float(F.cross_entropy(student(seen), TRAIN.labels[rows]))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator, told = Accelerator(cpu=True), []
    divided.LONG = 0
    call = {"normalization": Normalization(), "accelerator": accelerator}
    (whole,) = evaluate_sets(TRAIN, TEST, NORMED, trainings=folder / "rows", **call)
    lost = sorted((folder / "rows").glob("*-2.json"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        lost[0].unlink()
    accelerator.wait_for_everyone()
    (again,) = evaluate_sets(TRAIN, TEST, NORMED, trainings=folder / "rows", **call)
    evaluate_sets(TRAIN, TEST, PLAIN, on_step=told.append, **call)
    facts = {
        "whole": whole.accuracies,
        "continued": again.accuracies,
        "missing": len(lost),
        "told": [one["step"] for one in told],
        "losses": [one["loss"] for one in told],
        "expected": first_loss(),
    }
    (folder / f"{accelerator.process_index}.txt").write_text(json.dumps(facts))
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
