"""Run by torchrun from test_sampling: two processes sample a set."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from tests.methods.test_sampling import CENTRES, EVERY, run
from tests.processes import end


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    made = {
        "made": run(accelerator=accelerator, anchors=CENTRES, weights=True, **EVERY["transport"]),
        "chosen": run(accelerator=accelerator, select={"kind": "centroids", "groups": 2}),
    }
    if accelerator.is_main_process:
        for name, one in made.items():
            parts = {"z": one.z, "images": one.images, "weights": one.weights}
            torch.save(parts, folder / f"{name}.pt")
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
