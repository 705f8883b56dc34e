"""One step of trajectory matching on digits: the three forms of its gradient, beside each other.

Time, peak memory of a process of its own, and error against the exact gradient: relative norm of
the difference, and cosine, at random real images, along one expert. `unrolled` is the plain form,
as MTT's released code has it.

python benchmarks/trajectory.py [LR] [INNER STEPS ...]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from latentdc.data.dataset import random_images
from latentdc.data.open import open_dataset
from latentdc.experts.training import ExpertTraining
from latentdc.images import from_uint8
from latentdc.objectives.build import build_objective
from latentdc.objectives.unroll import FORMS
from latentdc.preprocessing import Normalization
from latentdc.recipe import Data, Experts, ObjectiveSettings, Trajectory
from latentdc.runtime import device_name

NETWORK, RESOLUTION, IPC, REPEATS = "convnet3@32", 16, 10, 3


class OneExpert:
    """An expert of three epochs, read from a file."""

    count = 1

    def __init__(self, path: Path) -> None:
        self.kept = load_file(path)

    def weights(self, expert: int, epoch: int) -> dict[str, torch.Tensor]:
        """After so many epochs."""
        return {name: weights[epoch] for name, weights in self.kept.items()}


def prepare(folder: Path) -> None:
    """Train the expert and draw the images."""
    train, accelerator = open_dataset(Data(resolution=RESOLUTION), "train"), Accelerator()
    settings = Experts(epochs=3)
    kept = ExpertTraining(train, settings, NETWORK, Normalization(), 0, accelerator).train(0)
    save_file(kept, folder / "expert.safetensors")
    start = random_images(train, IPC, seed=0)
    save_file({"images": start.images, "labels": start.labels}, folder / "images.safetensors")


def resident(which: str) -> float:
    """MB of this process, now (VmRSS) or at most so far (VmHWM), as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1e3


def measure(form: str, steps: int, lr: float, folder: str) -> None:
    """Print what a step takes, and keep the gradients of `REPEATS` steps."""
    device = Accelerator().device
    start, experts = (
        load_file(f"{folder}/images.safetensors"),
        OneExpert(Path(folder) / "expert.safetensors"),
    )
    gradients, times = [], []
    before = resident("VmRSS")
    for step in range(REPEATS):
        trajectory = Trajectory(syn_steps=steps, lr_student=lr, lr_lr=0.0, form=form)
        objective = build_objective(
            ObjectiveSettings(kind="mtt", network=NETWORK, trajectory=trajectory),
            num_classes=10,
            resolution=RESOLUTION,
            experts=experts,
        )
        images = from_uint8(start["images"]).to(device).requires_grad_()
        began = time.perf_counter()
        objective.accumulate(step, images, start["labels"], None)
        gradients.append(images.grad.cpu())
        times.append(time.perf_counter() - began)
    above = resident("VmHWM") - before
    if device.type == "cuda":
        above = torch.cuda.max_memory_allocated() / 1e6
    found = torch.stack(gradients).flatten(1)
    torch.save(found, Path(folder) / f"{form}.pt")
    exact = torch.load(Path(folder) / "unrolled.pt")
    error = float(((found - exact).norm(dim=1) / exact.norm(dim=1)).mean())
    cosine = float(torch.cosine_similarity(found, exact).mean())
    print(
        f"{steps:>3} inner steps, {form:<8} {min(times):7.2f} s {above:6.0f} MB above its start, "
        f"error {error:.2g}, cosine {cosine:.3f}",
        flush=True,
    )


def main() -> None:
    lr, *steps = sys.argv[1:] or ["0.01", "5", "20", "50"]
    name = device_name(Accelerator().device)
    print(f"{name}, {torch.get_num_threads()} threads; digits, {NETWORK}, ipc {IPC}, lr {lr}")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for count in steps:
            for form in FORMS:
                arguments = f"{form!r}, {count}, {lr}, {folder!r}"
                work = f"from trajectory import measure; measure({arguments})"
                subprocess.run([sys.executable, "-c", work], check=True, cwd=Path(__file__).parent)


if __name__ == "__main__":
    main()
