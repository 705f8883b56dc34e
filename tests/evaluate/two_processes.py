"""Run by torchrun from test_jobs: evaluate in two processes, then again with one row missing."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.evaluate import evaluate, job
from latentdc.images import Normalization
from tests.evaluate.toys import TEST, TWO, stripes


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    done, train = [], job.train_student

    def counting(labelled, network, protocol, *, seed, **others):
        done.append((network, seed))
        return train(labelled, network, protocol, seed=seed, **others)

    job.train_student = counting
    call = {
        "rows": folder / "rows",
        "accelerator": accelerator,
        "normalization": Normalization(),
    }
    score = evaluate(stripes(12), TEST, TWO, **call)
    (folder / f"{accelerator.process_index}.txt").write_text(f"{done}{score.accuracies}")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        next((folder / "rows").iterdir()).unlink()
    accelerator.wait_for_everyone()
    assert evaluate(stripes(12), TEST, TWO, **call) == score
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
