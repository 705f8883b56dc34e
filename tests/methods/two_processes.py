"""Run by torchrun from test_processes: every process writes what it computed."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc import runtime
from latentdc.errors import InputError
from latentdc.methods import decode
from latentdc.methods.latents import initial_latents, own_classes
from latentdc.methods.loop import image_gradient
from latentdc.methods.real import RealBatches
from latentdc.recipe import Trim
from tests.methods import setup
from tests.methods.test_loop import TotalVariance
from tests.priors import small
from tests.processes import end

TRIM = Trim(share=0.4, refresh=3)


def first_gradient(accelerator: Accelerator, objective) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of z and c at the first step, for the classes of this process."""
    data, prior = setup.dataset(), small.prior(steps=2)
    classes = own_classes(3, accelerator.process_index, accelerator.num_processes)
    latents = initial_latents(data, prior, classes, ipc=2, seed=0)
    real = RealBatches(data, range(3), batch=4, seed=0)
    decoded = latents.decode(prior)
    gradient, _ = image_gradient(objective, 0, decoded, latents.labels, real, accelerator)
    decoded.backward(gradient)
    return torch.cat([z.grad for z in latents.z]), torch.cat([c.grad for c in latents.c])


def refusal(accelerator: Accelerator) -> str:
    """What this process raises where only the main process finds something wrong."""

    def refuse() -> None:
        assert accelerator.is_main_process, "the others must not even try"
        raise InputError("found by the main process")

    try:
        runtime.main_first(accelerator, refuse)
    except InputError as error:
        return str(error)
    return "nothing"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    (folder / f"refusal-{accelerator.process_index}.txt").write_text(refusal(accelerator))
    gradients = {
        "dm": first_gradient(accelerator, setup.objective("dm")),
        "dc": first_gradient(accelerator, setup.objective("dc")),
        "mtt": first_gradient(accelerator, setup.objective("mtt")),
        "set": first_gradient(accelerator, TotalVariance()),
    }
    torch.save(gradients, folder / f"gradients-{accelerator.process_index}.pt")
    made = setup.run(accelerator=accelerator)
    setup.run(folder / "half", steps=5, accelerator=accelerator)
    # A class at a time, of which one process has none in the last exchange.
    decode.RENDERED, decode.BLOCK = 2, 1
    decode.MEMORY_LIMIT = 0  # through a file
    some = setup.run(folder / "some", accelerator=accelerator, classes_per_step=2, grid_every=10)
    setup.run(folder / "half of some", steps=5, accelerator=accelerator, classes_per_step=2)
    options = {"trim": TRIM, "classes_per_step": 2}
    trimmed = setup.run(folder / "trimmed", accelerator=accelerator, **options)
    setup.run(folder / "half of trimmed", steps=5, accelerator=accelerator, **options)
    trained = setup.run(kind="dc loops", steps=2, accelerator=accelerator, trim=TRIM)
    if accelerator.is_main_process:
        torch.save({"z": trained.z}, folder / "trained.pt")
        torch.save({"z": made.z, "c": made.c, "images": made.images}, folder / "made.pt")
        torch.save({"z": trimmed.z}, folder / "trimmed.pt")
        torch.save({"z": some.z, "c": some.c, "images": some.images}, folder / "some.pt")
    else:
        assert made.z is None and torch.equal(made.labels, torch.arange(3).repeat_interleave(2))
        torch.save(some.images, folder / "mapped.pt")
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
