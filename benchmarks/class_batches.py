"""Mini-batches of classes: cost of a step by the number of classes, memory by that of processes.

Random images from a memory-mapped file, on CPUs; a small random diffusion prior for the cost
(in seconds of the processor), pixels for the memory, whose steps need little beside the latents.

python benchmarks/class_batches.py
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch
from accelerate import Accelerator

from latentdc.data.dataset import Dataset
from latentdc.draws import global_draws
from latentdc.images import MappedImages
from latentdc.methods.latents import initial_latents, own_classes, step_classes
from latentdc.methods.loop import Work, match_steps
from latentdc.methods.rates import make_optimizer
from latentdc.methods.real import RealBatches
from latentdc.objectives.build import build_objective
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.denoisers import UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.schedule import make_schedule
from latentdc.priors.small import build_autoencoder, build_scheduler, build_unet
from latentdc.recipe import Matching, ObjectiveSettings, PriorSettings
from latentdc.recipe.prior_training import AutoencoderTraining, UNetTraining
from latentdc.runtime import device_name

RESOLUTION, REAL = 32, 10  # pixels, and real images per class
SETS = (10, 100, 1000)  # classes


def small_prior(kind: str, names: tuple[str, ...]) -> Prior:
    if kind == "pixel":
        return PixelPrior(RESOLUTION)
    with global_draws(0, "prior"):
        vae = build_autoencoder(AutoencoderTraining(channels=[16, 16]), RESOLUTION)
        space = AutoencoderPrior(vae, resolution=RESOLUTION)
        spec = UNetTraining(channels=[16, 32], heads=16)
        unet, embedding = build_unet(spec, space.latent_shape, names)
    denoiser = UNetDenoiser(unet, embedding)
    settings = PriorSettings(weights="small", steps=2, memory="fast")
    schedule = make_schedule(build_scheduler(), settings.steps)
    return DiffusionPrior(space, denoiser, schedule, settings, class_names=names)


def real_images(path: Path, classes: int) -> Dataset:
    shape = (classes * REAL, 3, RESOLUTION, RESOLUTION)
    labels = torch.arange(shape[0]) // REAL
    names = tuple(f"class {label}" for label in range(classes))
    return Dataset(MappedImages.open(path, shape), labels, names, torch.arange(shape[0]), "random")


def in_memory() -> int:
    """Bytes of this process that are no file's."""
    info = psutil.Process().memory_info()
    return info.rss - info.shared


def measure(path: Path, kind: str, classes: int, per_step: int, ipc: int, steps: int) -> None:
    """Print MB that the latents of a run came to, and seconds per step."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    data = real_images(path, classes)
    prior = small_prior(kind, data.class_names)
    objective = build_objective(
        ObjectiveSettings(network="convnet3@8"), num_classes=classes, resolution=RESOLUTION
    )
    own = own_classes(classes, accelerator.process_index, accelerator.num_processes)
    held = in_memory()
    latents = initial_latents(data, prior, own, ipc=ipc, seed=0, from_noise=True)
    times = [time.process_time()]
    work = Work(
        latents,
        prior,
        objective,
        RealBatches(data, own, batch=REAL, seed=0),
        make_optimizer(latents, Matching(lr_z=0.1, lr_c=0.1)),
        accelerator,
        lambda step: step_classes(classes, per_step, step, 0),
    )
    for _ in match_steps(work, 0, steps):
        times.append(time.process_time())
    seconds = median(after - before for before, after in pairwise(times[1:]))
    print(f"FIGURES {(in_memory() - held) / 1e6:.0f} {seconds:.3f}", flush=True)
    accelerator.end_training()


def figures(
    folder: str, kind: str, processes: int, classes: int, *numbers: int
) -> list[tuple[float, float]]:
    """(MB, seconds per step) of every process."""
    path = Path(folder) / f"{classes}.bin"
    levels = np.random.default_rng(0).bytes(classes * REAL * 3 * RESOLUTION**2)
    path.write_bytes(levels)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), __file__, str(path), kind]
    command += map(str, (classes, *numbers))
    variables = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("FIGURES")]
    return [(float(memory), float(seconds)) for _, memory, seconds in lines]


def main() -> None:
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
        return
    print(f"{device_name(torch.device('cpu'))}, one thread a process, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        print("10 classes a step, 1 image per class:")
        rounds = [
            [figures(folder, "diffusion", 1, classes, 10, 1, 15)[0][1] for classes in SETS]
            for _ in range(3)
        ]
        for classes, seconds in zip(SETS, zip(*rounds, strict=True), strict=True):
            print(f"  {classes:>5} classes: {min(seconds):.3f} s a step (best median of three)")
        print("1,000 classes, 50 images per class, 20 classes a step, one epoch:")
        for processes in (1, 2):
            parts = figures(folder, "pixel", processes, 1000, 20, 50, 50)
            told = ", ".join(f"{memory:.0f} MB" for memory, _ in parts)
            print(f"  {processes} process{'es' if processes > 1 else ''}: {told}")


if __name__ == "__main__":
    main()
