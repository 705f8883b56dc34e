"""Cost of a distillation step per class, from 10 to 1000 classes, through a tiny random prior.

python benchmarks/classes.py [COUNT ...]
"""

import sys
import time
from collections import defaultdict

import torch
from accelerate import Accelerator

from latentdc import draws
from latentdc.data.dataset import Dataset
from latentdc.methods.latents import initial_latents
from latentdc.methods.loop import image_gradient
from latentdc.methods.rates import make_optimizer
from latentdc.methods.real import RealBatches
from latentdc.objectives.build import build_objective
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.schedule import make_schedule
from latentdc.priors.small import build_autoencoder, build_scheduler, build_unet
from latentdc.recipe import Matching, ObjectiveSettings, PriorSettings
from latentdc.recipe.prior_training import AutoencoderTraining, UNetTraining

SIZE, EACH, STEPS, ROUNDS = 8, 4, 3, 3
PARTS = ("decode", "objective", "way back", "update")


def dataset(classes: int) -> Dataset:
    count = classes * EACH
    shape = (count, 3, SIZE, SIZE)
    images = torch.randint(0, 256, shape, generator=draws.generator(0)).to(torch.uint8)
    names = tuple(f"class {label}" for label in range(classes))
    return Dataset(images, torch.arange(count) % classes, names, torch.arange(count), "random")


def prior(names: tuple[str, ...]) -> DiffusionPrior:
    with draws.global_draws(0):
        vae = build_autoencoder(AutoencoderTraining(channels=[16, 16], latent_channels=2), SIZE)
        spec = UNetTraining(channels=[16, 32], heads=16, condition=16)
        unet, embedding = build_unet(spec, (2, SIZE // 2, SIZE // 2), names)
    space = AutoencoderPrior(vae, resolution=SIZE)
    denoiser = UNetDenoiser(unet, embedding)
    settings = PriorSettings(weights="small", steps=STEPS, memory="fast")
    schedule = make_schedule(build_scheduler(), settings.steps)
    return DiffusionPrior(space, denoiser, schedule, settings, class_names=names)


def measured(classes: int) -> dict[str, float]:
    """Seconds of each part of a step, the best of some."""
    data, accelerator = dataset(classes), Accelerator(cpu=True)
    made = prior(data.class_names)
    latents = initial_latents(data, made, range(classes), ipc=1, seed=0)
    objective = build_objective(
        ObjectiveSettings(network="convnet3@8"), num_classes=classes, resolution=SIZE
    )
    real = RealBatches(data, range(classes), batch=EACH, seed=0)
    optimizer = make_optimizer(latents, Matching(lr_z=0.1, lr_c=0.1))
    best: dict[str, float] = defaultdict(lambda: float("inf"))
    for step in range(ROUNDS):
        optimizer.zero_grad(set_to_none=True)
        times = [time.perf_counter()]
        decoded = latents.decode(made)
        times.append(time.perf_counter())
        real.expect(step, latents.classes)
        gradient, _ = image_gradient(objective, step, decoded, latents.labels, real, accelerator)
        times.append(time.perf_counter())
        decoded.backward(gradient)
        times.append(time.perf_counter())
        optimizer.step()
        times.append(time.perf_counter())
        for part, began, ended in zip(PARTS, times, times[1:], strict=False):
            best[part] = min(best[part], ended - began)
    return best


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [10, 100, 1000]
    print(f"milliseconds per class and step, {torch.get_num_threads()} threads")
    print(f"{'classes':>8}" + "".join(f"{part:>12}" for part in (*PARTS, "all")))
    for classes in counts:
        found = measured(classes)
        parts = [1000 * found[part] / classes for part in PARTS]
        print(
            f"{classes:>8}" + "".join(f"{part:12.3f}" for part in (*parts, sum(parts))), flush=True
        )


if __name__ == "__main__":
    main()
