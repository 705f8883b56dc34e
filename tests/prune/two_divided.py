"""Run by torchrun from test_divided: a scorer whose batches two processes divide."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc import divided
from latentdc.preprocessing import Normalization
from latentdc.prune import scorer_training
from latentdc.prune.scorer_training import ScorerTraining
from latentdc.recipe import Scorer
from tests.processes import end
from tests.prune.toys import colours

STEPS = 12  # in four epochs of batches of 14, 14 and 3 images


def trained(accelerator: Accelerator) -> ScorerTraining:
    """Small, without batch norm and dropout."""
    scorer = Scorer(network="convnet3@4", epochs=4, batch=14, lr=0.1)
    run = ScorerTraining(
        colours(31), scorer, normalization=Normalization(), seed=0, accelerator=accelerator
    )
    for _ in run.run():
        pass
    return run


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator, seen, fetch = Accelerator(cpu=True), [], scorer_training.fetch
    assert accelerator.num_processes == 2
    divided.LONG = 0
    scorer_training.fetch = lambda images, rows, device: (
        seen.append(len(rows)) or fetch(images, rows, device)
    )
    state = trained(accelerator).state()
    told = {**state, "seen": torch.tensor(seen)}
    torch.save(told, folder / f"{accelerator.process_index}.pt")
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
