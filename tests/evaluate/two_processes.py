"""Run by torchrun from test_evaluate: evaluate in two processes, then again what is missing."""

import json
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.evaluate import evaluate
from latentdc.preprocessing import Normalization
from tests.evaluate.toys import TEST, TWO, stripes
from tests.processes import end


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    done, train = [], evaluate.train_together

    def counting(sets, network, *others, seeds, **options):
        done.extend((network, seed) for seed in seeds)
        if network == "alexnet@2" and 0 in seeds:
            time.sleep(4)
        return train(sets, network, *others, seeds=seeds, **options)

    evaluate.train_together = counting
    call = {
        "trainings": folder / "rows",
        "accelerator": accelerator,
        "normalization": Normalization(),
    }
    results = evaluate.evaluate_sets(stripes(12), TEST, TWO, **call)
    found = [one.accuracies for one in results]
    told = json.dumps({"trainings": done, "accuracies": found})
    (folder / f"{accelerator.process_index}.txt").write_text(told)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        next((folder / "rows").iterdir()).unlink()
    accelerator.wait_for_everyone()
    again = evaluate.evaluate_sets(stripes(12), TEST, TWO, **call)
    assert [one.accuracies for one in again] == found
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
