"""How strong a gradient reaches the latents, by number of denoising steps and form of the skip.

The shape of LD3M's Table 1 (Moser et al., https://arxiv.org/abs/2403.03881): through the unchanged
sampler the norm of dL/dz decays with the number of steps; the skip is there to keep it. Nothing is
trained. With matplotlib, `gradients.png` shows the curves.

python benchmarks/gradient_norms.py digits_ipc1
python benchmarks/gradient_norms.py cifar10_ipc10 2,5,10 ipc=1 data.source=FOLDER
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from accelerate import Accelerator

from latentdc import config
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits, preprocessing
from latentdc.methods.latents import initial_latents
from latentdc.methods.loop import image_gradient
from latentdc.methods.matching import settle_memory
from latentdc.methods.real import RealBatches
from latentdc.objectives.build import build_objective
from latentdc.priors.load import load_prior
from latentdc.recipe import Loops, Recipe

Skip = Literal["none", "x0", "mean"]
SKIPS: tuple[Skip, ...] = ("none", "x0", "mean")
STEPS = (2, 5, 10, 20, 50)
STUDENTS = 4  # draws that a norm is averaged over
ONE_STEP = Loops(outer=1, inner=1)  # a student is drawn anew each time, and never trained


def main() -> None:
    name, *words = sys.argv[1:]
    steps = STEPS
    if words and "=" not in words[0]:
        steps = tuple(map(int, words.pop(0).split(",")))
    recipe = config.load(Recipe, config.find(name, "recipes"), words)
    if recipe.prior.kind != "diffusion":
        sys.exit(f"denoising steps vary, and prior.kind={recipe.prior.kind} has none.")
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    train, _ = open_splits(recipe.data)
    norms = {
        skip: [gradient_norm(recipe, train, count, skip, accelerator) for count in steps]
        for skip in SKIPS
    }
    print("norm of dL/dz\nsteps" + "".join(f"  {f'skip {skip}':>12}" for skip in norms))
    for index, count in enumerate(steps):
        print(f"{count:>5}" + "".join(f"  {norms[skip][index]:12.4g}" for skip in norms))
    plot(steps, norms)


def gradient_norm(
    recipe: Recipe, train: Dataset, steps: int, skip: Skip, accelerator: Accelerator
) -> float:
    """L2 norm of dL/dz over all latents at the start, a mean over some random students.

    Args:
        recipe: its prior, objective, ipc and seed.
        train: real images.
        steps: denoising steps.
        skip: form of the residual.
        accelerator: device and precision.
    """
    spec = replace(recipe.prior, steps=steps, skip=skip)
    normalization = preprocessing(recipe.data, train)
    objective = build_objective(
        replace(recipe.objective, loops=ONE_STEP),
        num_classes=train.num_classes,
        resolution=train.resolution,
        normalization=normalization,
        seed=recipe.seed,
    )
    prior = load_prior(
        spec,
        resolution=train.resolution,
        class_names=train.class_names,
        normalization=normalization,
        seed=recipe.seed,
        device=accelerator.device,
    )
    classes = range(train.num_classes)
    latents = initial_latents(
        train,
        prior,
        classes,
        ipc=recipe.ipc,
        seed=recipe.seed,
        from_noise=recipe.distill.init == "noise",
        device=accelerator.device,
    )
    prior, _ = settle_memory(prior, len(latents.labels), None, accelerator)
    real = RealBatches(
        train, classes, batch=recipe.objective.batch, seed=recipe.seed, device=accelerator.device
    )
    norms = []
    for student in range(STUDENTS):
        with accelerator.autocast():
            decoded = latents.decode(prior)
        gradient, _ = image_gradient(objective, student, decoded, latents.labels, real, accelerator)
        to_z = torch.autograd.grad(decoded, latents.z, gradient.to(decoded.dtype))
        norms.append(torch.cat(to_z).norm())
    return float(torch.stack(norms).mean())


def plot(steps: Sequence[int], norms: dict[Skip, list[float]]) -> None:
    """A curve per skip; without matplotlib only the numbers are printed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for skip, values in norms.items():
        axes.plot(steps, values, marker="o", label=f"skip: {skip}")
    axes.set(xscale="log", yscale="log", xlabel="denoising steps", ylabel="norm of dL/dz")
    axes.set_xticks(list(steps), [str(count) for count in steps])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.legend()
    figure.savefig("gradients.png", dpi=150)


if __name__ == "__main__":
    main()
