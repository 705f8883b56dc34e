"""Run by torchrun from test_soft_labels: store soft labels and learn from them in two processes."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.preprocessing import Normalization
from tests.evaluate.test_soft_labels import SMALL, TEST, TRAIN, softly
from tests.processes import end


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    (result,) = evaluate_sets(
        SMALL,
        TEST,
        softly("stored"),
        normalization=Normalization(),
        train=TRAIN,
        trainings=folder / "two" / "rows",
        accelerator=accelerator,
    )
    (folder / f"{accelerator.process_index}.txt").write_text(str(result.accuracies))
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
