"""Run by torchrun from test_together: groups of seeds, evaluated in two processes."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc import divided
from latentdc.evaluate import evaluate
from latentdc.preprocessing import Normalization
from tests.evaluate.toys import TEST, protocol, stripes
from tests.processes import end


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator, groups, train = Accelerator(cpu=True), [], evaluate.train_together
    assert accelerator.num_processes == 2

    def counted(*others, seeds, **options):
        groups.append(list(seeds))
        return train(*others, seeds=seeds, **options)

    evaluate.train_together = counted
    (result,) = evaluate.evaluate_sets(
        stripes(12),
        TEST,
        protocol(seeds=4, together=2),
        normalization=Normalization(),
        trainings=folder / "rows",
        accelerator=accelerator,
    )
    told = json.dumps({"groups": groups, "accuracies": result.accuracies})
    (folder / f"{accelerator.process_index}.txt").write_text(told)
    divided.LONG = 0
    few = protocol(seeds=1, together=2)
    evaluate.evaluate_sets(
        stripes(12), TEST, few, normalization=Normalization(), accelerator=accelerator
    )
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
