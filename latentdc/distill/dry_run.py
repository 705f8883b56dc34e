"""What a recipe would take, counted on networks without weights: nothing is decoded or trained.

Work is counted by torch's FLOP counter and memory by the tensors that autograd would keep, both on
the `meta` device; only the time is a guess.
"""

import math
import time
from collections.abc import Callable

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latentdc.data.sizes import class_count, kept_size
from latentdc.data.vectors import vector_width
from latentdc.distill.parts import build_prior
from latentdc.networks.build import build_network
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.folder import WeightsMissing
from latentdc.priors.memory import Plan, choose_plan, fixed_plan, free_bytes
from latentdc.priors.vector import sample_shape
from latentdc.recipe import ObjectiveSpec, Recipe
from latentdc.standardization import outline

Inputs = tuple[Tensor, Tensor | None, Tensor | None]  # z, c and noise
UNKNOWN = "unknown until downloaded"
USABLE = 0.3  # share of the measured matrix rate that networks commonly reach


def describe(recipe: Recipe) -> str:
    """Lines of `quantity: value` for the whole recipe.

    Raises:
        InputError: a prior that does not exist or cannot have the resolution.
    """
    size, classes = kept_size(recipe.data), class_count(recipe.data)
    unread = outline(vector_width(recipe.data)) if recipe.data.kind == "vectors" else None
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
            lines["decoded images"] = _bytes((size.train + size.test) * 3 * side**2)
    try:
        prior = build_prior(recipe, "meta", normalization=unread)
    except WeightsMissing:
        prior = None
        lines["prior"] = f"{recipe.prior.weights}: {UNKNOWN}"
    if prior is not None and classes is not None:
        lines |= _costs(recipe, prior, classes)
    width = max(map(len, lines)) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in lines.items())


def _costs(recipe: Recipe, prior: Prior, classes: int) -> dict[str, str]:
    """Work, memory and disk of the distillation."""
    per_step = min(recipe.distill.classes_per_step or classes, classes)
    images, moved = classes * recipe.ipc, per_step * recipe.ipc
    processes = PartialState().num_processes
    inputs = _inputs(prior, 1)
    forward = sweep(prior, inputs)
    plan = _plan(recipe, prior, moved // processes)
    again = 0 if plan.memory == "fast" else 1
    back = (recipe.prior.truncate or recipe.prior.steps) / recipe.prior.steps
    sweeps = 1 + back * (1 + again)  # backward to the inputs costs one forward
    student = build_network(
        recipe.objective.network, num_classes=classes, resolution=prior.resolution
    ).to("meta")
    sample = sample_shape(prior)
    batch = torch.empty(1, *sample, device="meta")
    once = _work(lambda: student(batch))
    passes = _passes(recipe.objective, per_step, moved) + _looks(recipe, per_step)
    work = sweeps * moved * forward + passes * once
    latents = sum(t.numel() for t in inputs if t is not None) * images
    sizes = {"z": prior.latent_shape, "c": None if inputs[1] is None else inputs[1].shape[1:]}
    shapes = ", ".join(f"{k} {tuple(v)}" for k, v in sizes.items() if v is not None)
    lines = {
        "synthetic images": f"{images:,} ({recipe.ipc} per class)",
        "latents": f"{shapes} per image, {_bytes(4 * latents)} in all",
        "steps": f"{recipe.distill.steps:,}",
    }
    if per_step < classes:
        updates = recipe.distill.steps * per_step / classes
        lines["classes per step"] = (
            f"{per_step:,}, so that each class is moved {updates:,.0f} times"
        )
    if isinstance(prior, DiffusionPrior):
        calls = len(prior.schedule.timesteps)
        branches = 1 if prior.guidance == 1 else 2
        lines["denoiser"] = (
            f"{calls} calls per sweep, {moved * calls * branches:,} samples with guidance; "
            f"{'2 sweeps' if again else '1 sweep'} forward and {back:g} back per step"
        )
    seconds = recipe.distill.steps * work / (USABLE * _matrix_rate())
    return lines | {
        "work per step": f"{work / 1e9:,.1f} GMAC, {sweeps * moved * forward / 1e9:,.1f} of them "
        "in the prior",
        "memory per process": f"{_bytes(_held(inputs, prior, images) / processes)} of latents, "
        f"noise and momentum, about {_bytes(_activations(prior, plan, moved / processes))} of "
        f"activations in backward ({plan.memory}), on {processes} "
        f"process{'es' if processes > 1 else ''}",
        "weights": _bytes(4 * _parameters(prior)),
        "disk": f"about {_bytes(4 * 2 * latents + images * math.prod(sample))} for latents, "
        "checkpoint and images",
        "time": f"very roughly {_duration(seconds / processes)} for the steps on this machine",
    }


def _passes(spec: ObjectiveSpec, classes: int, images: int) -> float:
    """Forward passes of a student, each of one image, that a step's objective amounts to."""
    if spec.kind == "mtt":
        trajectory = spec.trajectory
        of_step = {"unrolled": 8.5, "replayed": 11.7, "constant": 10.7}  # counted on convnet3
        batch = min(trajectory.batch_syn or images, images)
        return of_step[trajectory.form] * trajectory.syn_steps * batch
    real = classes * spec.batch
    if spec.kind == "dm":
        return real + 2 * images
    outer, inner = spec.loops.outer or 1, spec.loops.inner or 1
    return 3 * real + 6 * images + 3 * images * inner * (outer - 1) / outer


def _looks(recipe: Recipe, classes: int) -> float:
    """Forward passes that looking at the effects of real images amounts to, averaged over steps."""
    trim, gradients = recipe.distill.trim, recipe.objective.kind == "dc"
    if trim.share == 0:
        return 0
    image = 6.5 if gradients else 1.0  # its features, or its gradient: timed on convnet3
    product = (7.0 if gradients else 1.0) * recipe.ipc if trim.effect == "taylor" else 0.0
    return classes * recipe.objective.batch * (image + product) / trim.refresh


def sweep(prior: Prior, inputs: Inputs) -> float:
    """Multiply-adds of decoding once; of a diffusion prior one denoiser call, times its calls."""
    if not isinstance(prior, DiffusionPrior):
        return _work(lambda: prior.decode(*inputs))
    z, c, _ = inputs
    context = prior.context(c)
    once = _work(lambda: prior.context(c))
    call = _work(lambda: prior.predict(z, prior.schedule.timesteps[0], context))
    image = _work(lambda: prior.autoencoder.draw(z))
    return len(prior.schedule.timesteps) * call + once + image


def _plan(recipe: Recipe, prior: Prior, images: int) -> Plan:
    """How a process would decode its images; where it is measured, on this machine."""
    spec = recipe.prior
    if isinstance(prior, AutoencoderPrior | DiffusionPrior) and spec.memory == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return choose_plan(prior.needs(), images, free_bytes(device))
    return fixed_plan(spec.memory, spec.chunk) or Plan("fast")


def _activations(prior: Prior, plan: Plan, images: int) -> float:
    """Bytes that backward needs at once: everything, or one step of one chunk beside all x_t."""
    if not isinstance(prior, AutoencoderPrior | DiffusionPrior):
        return 0
    needs = prior.needs()
    if plan.memory == "fast":
        return images * needs.whole
    calls = len(prior.schedule.timesteps) if isinstance(prior, DiffusionPrior) else 1
    stored = 4 * math.prod(prior.latent_shape) * calls
    return min(plan.chunk or images, images) * needs.largest + images * stored


def _held(inputs: Inputs, prior: Prior, images: int) -> int:
    """Bytes of z, c, their momentum, and the noise, of all images."""
    z, c, _ = inputs
    learned = z.numel() + (0 if c is None else c.numel())
    return 4 * images * (2 * learned + (z.numel() if prior.has_noise else 0))


def _inputs(prior: Prior, count: int) -> Inputs:
    z = torch.empty(count, *prior.latent_shape, device="meta", requires_grad=True)
    c = prior.condition(torch.zeros(count, dtype=torch.long, device="meta"))
    if c is not None:
        c = c.detach().requires_grad_()
    return z, c, torch.empty_like(z) if prior.has_noise else None


def _work(forward: Callable[[], object]) -> float:
    """Multiply-adds of a forward pass."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops()) / 2


def _parameters(prior: Prior) -> int:
    spaces = [getattr(prior, "autoencoder", None)]
    modules = [getattr(space, "autoencoder", space) for space in spaces if space is not None]
    denoiser = getattr(prior, "denoiser", None)
    modules += [part for part in vars(denoiser or object).values() if hasattr(part, "parameters")]
    return sum(p.numel() for module in modules for p in module.parameters())


def _matrix_rate(size: int = 1024) -> float:
    """Multiply-adds per second of one matrix product on this machine's first device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.ones(size, size, device=device)
    float((a @ a)[0, 0])
    began = time.perf_counter()
    for _ in range(5):
        a = (a @ a).clamp_(max=1)
    float(a[0, 0])
    return 5 * size**3 / (time.perf_counter() - began)


def _bytes(count: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.3g} {units[power]}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
