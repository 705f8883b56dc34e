"""What a recipe would take, counted on networks without weights: nothing is decoded or trained.

Work is counted by torch's FLOP counter and memory by the tensors that autograd would keep, both on
the `meta` device; only the time is a guess.
"""

import math

import torch
from accelerate import PartialState

from latentdc.data.open import class_count, kept_size
from latentdc.data.vectors import vector_width
from latentdc.distill.classes import most_together
from latentdc.distill.parts import build_prior
from latentdc.distill.work import (
    activation_bytes,
    decoding_plan,
    effect_passes,
    latent_bytes,
    prior_inputs,
    prior_parameters,
    student_passes,
    sweep,
)
from latentdc.estimates import UNKNOWN, aligned, in_bytes, in_time, multiply_adds, seconds_for
from latentdc.images import unread_standardization
from latentdc.networks.build import build_network
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.folder import WeightsMissing
from latentdc.priors.vector import sample_shape
from latentdc.recipe import Recipe


def describe(recipe: Recipe) -> str:
    """Lines of `quantity: value` for the whole recipe.

    Raises:
        InputError: a prior that does not exist or cannot have the resolution.
    """
    size, classes = kept_size(recipe.data), class_count(recipe.data)
    unread = (
        unread_standardization(vector_width(recipe.data)) if recipe.data.kind == "vectors" else None
    )
    side = recipe.data.resolution
    shown = f"{side} px" if unread is None else f"vectors of {len(unread.mean):,} values"
    lines = {"data": f"{recipe.data.source}, {shown}"}
    if size is None:
        lines["training images"] = UNKNOWN
    else:
        lines["training images"] = f"{size.train:,} of {size.classes:,} classes"
        kept = recipe.prune.expected(size.train, size.classes)
        lines["core set"] = f"about {kept:,} images"
        if unread is None:
            lines["decoded images"] = in_bytes((size.train + size.test) * 3 * side**2)
    try:
        prior = build_prior(recipe, "meta", normalization=unread)
    except WeightsMissing:
        prior = None
        lines["prior"] = f"{recipe.prior.weights}: {UNKNOWN}"
    if prior is not None and classes is not None:
        lines |= _costs(recipe, prior, classes)
    return aligned(lines)


def _costs(recipe: Recipe, prior: Prior, classes: int) -> dict[str, str]:
    """Work, memory and disk of the distillation."""
    per_step = min(recipe.distill.classes_per_step or classes, classes)
    images, moved = classes * recipe.ipc, per_step * recipe.ipc
    processes = PartialState().num_processes
    here = most_together(classes, per_step, min(processes, classes)) * recipe.ipc
    inputs = prior_inputs(prior, 1)
    forward = sweep(prior, inputs)
    plan = decoding_plan(recipe, prior, here)
    again = 0 if plan.memory == "fast" else 1
    calls = prior.calls if isinstance(prior, DiffusionPrior) else 1
    sweeps = 2 + again  # backward to the inputs costs one forward
    student = build_network(
        recipe.objective.network, num_classes=classes, resolution=prior.resolution
    ).to("meta")
    sample = sample_shape(prior)
    batch = torch.empty(1, *sample, device="meta")
    once = multiply_adds(lambda: student(batch))
    passes = student_passes(recipe.objective, per_step, moved) + effect_passes(recipe, per_step)
    work = sweeps * moved * forward + passes * once
    latents = sum(t.numel() for t in inputs if t is not None) * images
    sizes = {"z": prior.latent_shape, "c": None if inputs[1] is None else inputs[1].shape[1:]}
    shapes = ", ".join(f"{k} {tuple(v)}" for k, v in sizes.items() if v is not None)
    lines = {
        "synthetic images": f"{images:,} ({recipe.ipc} per class)",
        "latents": f"{shapes} per image, {in_bytes(4 * latents)} in all",
        "steps": f"{recipe.distill.steps:,}",
    }
    if per_step < classes:
        updates = recipe.distill.steps * per_step / classes
        lines["classes per step"] = (
            f"{per_step:,}, so that each class is moved {updates:,.0f} times"
        )
    if isinstance(prior, DiffusionPrior):
        branches = 1 if prior.guidance == 1 else 2
        lines["denoiser"] = (
            f"{calls} calls per sweep, {moved * calls * branches:,} samples"
            f"{' with guidance' * (branches - 1)}; "
            f"{'2 sweeps' if again else '1 sweep'} forward and 1 back per step"
        )
    kept = latent_bytes(inputs, prior, images) / processes
    held = activation_bytes(prior, plan, here)
    seconds = seconds_for(recipe.distill.steps * work)
    return lines | {
        "work per step": f"{work / 1e9:,.1f} GMAC, {sweeps * moved * forward / 1e9:,.1f} of them "
        "in the prior",
        "memory per process": f"{in_bytes(kept)} of latents, "
        f"noise and momentum, about {in_bytes(held)} of "
        f"activations in backward ({plan.memory}), on {processes} "
        f"process{'es' if processes > 1 else ''}",
        "weights": in_bytes(4 * prior_parameters(prior)),
        "disk": f"about {in_bytes(4 * latents * (1 + 2 * 2) + images * math.prod(sample))} for "
        "latents, two checkpoints and images",
        "time": f"very roughly {in_time(seconds / processes)} for the steps on this machine",
    }
