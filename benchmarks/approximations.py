"""How far bf16 is from the exact gradient, at the start of a recipe's run.

Cosine and relative distance of dL/dz and dL/dc over all classes, for the recipe's own objective.

python benchmarks/approximations.py digits_ipc1
python benchmarks/approximations.py cifar10_ipc10 ipc=1 prior.steps=10 data.source=FOLDER
"""

import sys
from functools import partial

import torch
from accelerate import Accelerator

from latentdc import config
from latentdc.data.open import open_splits, preprocessing
from latentdc.methods.latents import Latents, initial_latents
from latentdc.methods.loop import image_gradient
from latentdc.methods.real import RealBatches
from latentdc.objectives.build import build_objective
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.load import load_prior
from latentdc.recipe import Recipe


def gradients(prior: DiffusionPrior, latents: Latents, at_images: torch.Tensor):
    """Gradients of z and of c, each as one vector."""
    leaves = (*latents.z, *latents.c)
    found = torch.autograd.grad(latents.decode(prior), leaves, at_images)
    parts = found[: len(latents.z)], found[len(latents.z) :]
    return [torch.cat([t.flatten() for t in part]).double() for part in parts]


def report(title: str, found, exact) -> None:
    numbers = [
        float(value)
        for one, other in zip(found, exact, strict=True)
        for value in (one @ other / one.norm() / other.norm(), (one - other).norm() / other.norm())
    ]
    print(f"{title:<12}" + "".join(f"{number:10.4f}" for number in numbers), flush=True)


def main() -> None:
    recipe = config.load(Recipe, config.find(sys.argv[1], "recipes"), sys.argv[2:])
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    train, _ = open_splits(recipe.data)
    device, classes = accelerator.device, range(train.num_classes)
    open_prior = partial(
        load_prior, recipe.prior, resolution=train.resolution, seed=recipe.seed, device=device
    )
    prior = open_prior()
    latents = initial_latents(
        train, prior, classes, ipc=recipe.ipc, seed=recipe.seed, device=device
    )
    batch = recipe.objective.batch
    real = RealBatches(train, classes, batch=batch, seed=recipe.seed, device=device)
    objective = build_objective(
        recipe.objective,
        num_classes=train.num_classes,
        resolution=train.resolution,
        normalization=preprocessing(recipe.data, train),
        seed=recipe.seed,
    )
    images = latents.decode(prior)
    wanted, _ = image_gradient(objective, 0, images, latents.labels, real, accelerator)
    exact = gradients(prior, latents, wanted)
    spec = recipe.prior
    print(f"{spec.weights}, {spec.steps} steps, {recipe.objective.kind}, ipc {recipe.ipc}")
    print("              z cosine  distance  c cosine  distance")
    half = open_prior(precision="bf16")
    report("bf16", gradients(half, latents, wanted), exact)
    off = (latents.decode(half) - images).detach().abs() * 127.5
    print(
        f"  its images: {float(off.mean()):.3f} of 255 levels off, {float(off.max()):.1f} at most"
    )


if __name__ == "__main__":
    main()
