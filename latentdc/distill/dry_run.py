"""What a recipe would take, counted on networks without weights: no data, no download, no training.

Work is counted by torch's FLOP counter and memory by the tensors that autograd would keep, both on
the `meta` device; only the time is a guess.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latentdc.data.sizes import KNOWN
from latentdc.distill.parts import build_prior
from latentdc.networks.build import build_network
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.loading import WeightsMissing
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Recipe

Inputs = tuple[Tensor, Tensor | None, Tensor | None]  # z, c and noise
UNKNOWN = "unknown until downloaded"
USABLE = 0.3  # share of the measured matrix rate that networks commonly reach


def describe(recipe: Recipe) -> str:
    """Lines of `quantity: value` for the whole recipe.

    Raises:
        InputError: a prior that does not exist or cannot have the resolution.
    """
    size = KNOWN.get(recipe.data.source)
    lines = {"data": f"{recipe.data.source}, {recipe.data.resolution} px"}
    classes = len(recipe.data.classes) if recipe.data.classes else size and size.classes
    if size is None or classes is None:
        lines["training images"] = UNKNOWN
    else:
        train = round(size.train * classes / size.classes)
        pixels = 3 * recipe.data.resolution**2
        lines["training images"] = f"{train:,} of {classes:,} classes"
        lines["core set"] = f"about {round(train * recipe.prune.keep):,} images"
        lines["decoded images"] = _bytes(size.train * pixels + size.test * pixels)
    try:
        prior = build_prior(recipe, "meta")
    except WeightsMissing:
        prior = None
        lines["prior"] = f"{recipe.prior.weights}: {UNKNOWN}"
    if prior is not None and classes is not None:
        lines |= _costs(recipe, prior, classes)
    width = max(map(len, lines)) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in lines.items())


def _costs(recipe: Recipe, prior: Prior, classes: int) -> dict[str, str]:
    """Work, memory and disk of the distillation."""
    images = classes * recipe.ipc
    inputs = _inputs(prior, 1)
    forward = sweep(prior, inputs)
    sweeps = 3 if recipe.prior.memory == "low" else 2  # backward to the inputs costs one forward
    student = build_network(
        recipe.objective.network, num_classes=classes, resolution=recipe.data.resolution
    ).to("meta")
    batch = torch.empty(1, 3, prior.resolution, prior.resolution, device="meta")
    once, _ = _measure(lambda: student(batch))
    real = classes * recipe.objective.batch
    seen = real + 2 * images if recipe.objective.kind == "dm" else 3 * real + 6 * images
    work = sweeps * images * forward + seen * once
    latents = sum(t.numel() for t in inputs if t is not None) * images
    sizes = {"z": prior.latent_shape, "c": None if inputs[1] is None else inputs[1].shape[1:]}
    shapes = ", ".join(f"{k} {tuple(v)}" for k, v in sizes.items() if v is not None)
    lines = {
        "synthetic images": f"{images:,} ({recipe.ipc} per class)",
        "latents": f"{shapes} per image, {_bytes(4 * latents)} in all",
        "steps": f"{recipe.distill.steps:,}",
    }
    if isinstance(prior, DiffusionPrior):
        calls = len(prior.schedule.timesteps)
        branches = 1 if prior.guidance == 1 else 2
        lines["denoiser"] = (
            f"{calls} calls per sweep, {images * calls * branches:,} samples with guidance; "
            f"{'1 sweep' if sweeps == 2 else '2 sweeps'} forward and 1 back per step"
        )
    seconds = recipe.distill.steps * work / (USABLE * _matrix_rate())
    processes = PartialState().num_processes
    return lines | {
        "work per step": f"{work / 1e9:,.1f} GMAC, {sweeps * images * forward / 1e9:,.1f} of them "
        "in the prior",
        "memory in backward": f"about {_bytes(_activations(recipe, images))} of activations"
        + (f", shared by {processes} processes" if processes > 1 else ""),
        "weights": _bytes(4 * _parameters(prior)),
        "disk": f"about {_bytes(4 * 2 * latents + images * 3 * prior.resolution**2)} for latents, "
        "checkpoint and images",
        "time": f"very roughly {_duration(seconds / processes)} for the steps on this machine",
    }


def sweep(prior: Prior, inputs: Inputs) -> float:
    """Multiply-adds of decoding once; of a diffusion prior one denoiser call, times its calls."""
    if not isinstance(prior, DiffusionPrior):
        return _measure(lambda: prior.decode(*inputs))[0]
    z, c, _ = inputs
    assert c is not None
    call, _ = _measure(lambda: prior.denoiser(z, prior.schedule.timesteps[0], c))
    image, _ = _measure(lambda: prior.autoencoder.decode(z, None, None))
    branches = 1 if prior.guidance == 1 else 2
    return len(prior.schedule.timesteps) * branches * call + image


def _activations(recipe: Recipe, images: int) -> float:
    """Bytes that backward needs at once: everything, or one step of one chunk beside all x_t."""
    prior = build_prior(replace(recipe, prior=replace(recipe.prior, memory="fast")), "meta")
    if recipe.prior.memory == "fast" or isinstance(prior, PixelPrior):
        return images * _measure(lambda: prior.decode(*_inputs(prior, 1)))[1]
    z, c, _ = _inputs(prior, 1)
    space = prior.autoencoder if isinstance(prior, DiffusionPrior) else prior
    largest = _measure(lambda: space.decode(z, None, None))[1]
    stored = 0
    if isinstance(prior, DiffusionPrior):
        assert c is not None
        pair = 1 if prior.guidance == 1 else 2
        _, step = _measure(lambda: prior.denoiser(z, prior.schedule.timesteps[0], c))
        largest = max(largest, pair * step)
        stored = 4 * z.numel() * len(prior.schedule.timesteps)
    return min(recipe.prior.chunk, images) * largest + images * stored


def _inputs(prior: Prior, count: int) -> Inputs:
    z = torch.empty(count, *prior.latent_shape, device="meta", requires_grad=True)
    c = prior.condition(torch.zeros(count, dtype=torch.long, device="meta"))
    if c is not None:
        c = c.detach().requires_grad_()
    return z, c, torch.empty_like(z) if prior.has_noise else None


def _measure(forward: Callable[[], object]) -> tuple[float, int]:
    """Multiply-adds of a forward pass, and bytes that autograd keeps for its backward."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        FlopCounterMode(display=False) as counter,
    ):
        forward()
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return counter.get_total_flops() / 2, size


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
