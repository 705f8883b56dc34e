"""Run by torchrun from test_processes: score and choose in two processes."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.prune.pipeline import prune_dataset
from tests.prune.test_processes import CALLS, score_once


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    for name, call in CALLS.items():
        coreset = score_once(prune_dataset, call, folder / name, accelerator)
        coreset.save(folder / f"{name}-{accelerator.process_index}.parquet")
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
