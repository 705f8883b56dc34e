"""Run by torchrun from test_processes: score and choose in two processes."""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from latentdc.prune.prune import prune_dataset
from latentdc.prune.scorer_training import ScorerTraining
from tests.processes import end
from tests.prune.test_processes import CALLS, score_once

loss = ScorerTraining._loss


def drifting(self: ScorerTraining, *given: Any) -> torch.Tensor:
    """A step before which the weights are a little beside, as on a GPU that rounds otherwise."""
    with torch.no_grad():
        for weight in self.classifier.parameters():
            weight.mul_(1.01)
    return loss(self, *given)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    for name, call in CALLS.items():
        coreset = score_once(prune_dataset, call, folder / name, accelerator)
        coreset.save(folder / f"{name}-{accelerator.process_index}.parquet")
    if not accelerator.is_main_process:
        ScorerTraining._loss = drifting  # type: ignore[method-assign]
    score_once(prune_dataset, CALLS["loss"], folder / "drift", accelerator)
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
