"""Run by torchrun from test_processes: every process writes what it computed."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.distill.latents import initial_latents, own_classes
from latentdc.distill.loop import RealBatches, image_gradient
from tests.distill import setup
from tests.distill.test_loop import TotalVariance
from tests.priors import small


def first_gradient(accelerator: Accelerator, objective) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of z and c at the first step, for the classes of this process."""
    data, prior = setup.dataset(), small.prior(steps=2)
    classes = own_classes(3, accelerator.process_index, accelerator.num_processes)
    latents = initial_latents(data, prior, classes, ipc=2, seed=0)
    real = RealBatches(data, range(3), batch=4, seed=0)
    decoded = latents.decode(prior)
    gradient, _ = image_gradient(objective, 0, decoded, latents.labels, real, accelerator)
    decoded.backward(gradient)
    return latents.z.grad, latents.c.grad


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    gradients = {
        "dm": first_gradient(accelerator, setup.objective("dm")),
        "dc": first_gradient(accelerator, setup.objective("dc")),
        "set": first_gradient(accelerator, TotalVariance()),
    }
    torch.save(gradients, folder / f"gradients-{accelerator.process_index}.pt")
    made = setup.run(folder / "run", accelerator=accelerator)
    setup.run(folder / "half", steps=5, accelerator=accelerator)
    if accelerator.is_main_process:
        torch.save({"z": made.z, "c": made.c, "images": made.images}, folder / "made.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
