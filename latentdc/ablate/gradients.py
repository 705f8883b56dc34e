"""How strong a gradient reaches the latents, by number of denoising steps and form of the skip.

The shape of LD3M's Table 1 (Moser et al., https://arxiv.org/abs/2403.03881): through the unchanged
sampler the norm of dL/dz decays with the number of steps; the skip is there to keep it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator

from latentdc import runtime
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits, preprocessing
from latentdc.errors import InputError
from latentdc.methods.latents import initial_latents
from latentdc.methods.matching import image_gradient, settle_memory
from latentdc.methods.real import RealBatches
from latentdc.recipe import Loops, Recipe
from latentdc.run import build_prior, recipe_objective

Skip = Literal["none", "x0", "mean"]
SKIPS: tuple[Skip, ...] = ("none", "x0", "mean")
STUDENTS = 4  # draws that a norm is averaged over
ONE_STEP = Loops(outer=1, inner=1)  # a student is drawn anew each time, and never trained


def draw(recipe: Recipe, steps: Sequence[int], folder: Path) -> None:
    """Measure, print and keep the norms as `gradients.json`, and as a picture with matplotlib.

    Raises:
        InputError: a recipe whose prior does not denoise, or not in so many steps, or one whose
            objective sees all classes at once on more than one process.
    """
    if recipe.prior.kind != "diffusion":
        raise InputError(
            f"--gradients varies the denoising steps, and prior.kind={recipe.prior.kind} has none; "
            "take a recipe with prior.kind=diffusion."
        )
    most = replace(recipe, prior=replace(recipe.prior, steps=max(steps)))
    build_prior(most, "meta")  # refuses too many steps before any are measured
    accelerator = runtime.start(threads=recipe.threads, processes=recipe.processes)
    train, _ = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
    norms = {
        skip: [gradient_norm(recipe, train, count, skip, accelerator) for count in steps]
        for skip in SKIPS
    }
    if accelerator.is_main_process:
        print("\n".join(_lines(steps, norms)))
        folder.mkdir(parents=True, exist_ok=True)
        found = {"objective": recipe.objective.kind, "ipc": recipe.ipc, "seed": recipe.seed}
        content = json.dumps({**found, "steps": list(steps), "norms": norms}, indent=2) + "\n"
        part = folder / "gradients.json.part"
        part.write_text(content)
        os.replace(part, folder / "gradients.json")
        _plot(steps, norms, folder / "gradients.png")


def gradient_norm(
    recipe: Recipe, train: Dataset, steps: int, skip: Skip, accelerator: Accelerator
) -> float:
    """L2 norm of dL/dz over all latents at the start, a mean over some random students.

    Every process does all of it.

    Args:
        recipe: its prior, objective, ipc and seed.
        train: real images.
        steps: denoising steps.
        skip: form of the residual.
        accelerator: device and precision.

    Raises:
        InputError: an objective of scope `set` on more than one process.
    """
    spec = replace(recipe.prior, steps=steps, skip=skip)
    normalization = preprocessing(recipe.data, train)
    afresh = replace(recipe, objective=replace(recipe.objective, loops=ONE_STEP))
    objective = recipe_objective(afresh, train, normalization)
    if objective.scope == "set" and accelerator.num_processes > 1:
        raise InputError(
            f"--gradients with objective.kind={recipe.objective.kind} and students of "
            f"{recipe.objective.network} looks at all classes at once, and "
            f"{accelerator.num_processes} processes would each bring them all; start one process."
        )
    prior = build_prior(
        replace(recipe, prior=spec),
        accelerator.device,
        class_names=train.class_names,
        normalization=normalization,
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
    settle_memory(prior, len(latents.labels), None, accelerator)
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


def _lines(steps: Sequence[int], norms: dict[Skip, list[float]]) -> list[str]:
    header = "  ".join(["steps", *(f"{f'skip {skip}':>12}" for skip in norms)])
    rows = [
        "  ".join([f"{count:>5}", *(f"{norms[skip][index]:12.4g}" for skip in norms)])
        for index, count in enumerate(steps)
    ]
    return ["norm of dL/dz", header, *rows]


def _plot(steps: Sequence[int], norms: dict[Skip, list[float]], path: Path) -> None:
    """A curve per skip; without matplotlib only the numbers are kept."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: it needs matplotlib (pip install 'latentdc[plots]').")
        return
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for skip, values in norms.items():
        axes.plot(steps, values, marker="o", label=f"skip: {skip}")
    axes.set(xscale="log", yscale="log", xlabel="denoising steps", ylabel="norm of dL/dz")
    axes.set_xticks(list(steps), [str(count) for count in steps])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.legend()
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=150)
    os.replace(part, path)
    print(f"picture: {path}")
