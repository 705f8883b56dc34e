"""Work and memory of a distillation, counted on the `meta` device.

Work is counted by torch's FLOP counter, in multiply-adds, and memory by the tensors that autograd
would keep. What a student's objective costs is in forward passes of it, of one image each.
"""

import math

import torch
from torch import Tensor

from latentdc.estimates import multiply_adds
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import Plan, choose_plan, fixed_plan, free_bytes
from latentdc.recipe import ObjectiveSettings, Recipe

Inputs = tuple[Tensor, Tensor | None, Tensor | None]  # z, c and noise


def prior_inputs(prior: Prior, count: int) -> Inputs:
    """What `count` images are decoded from; z and c ask for gradients."""
    z = torch.empty(count, *prior.latent_shape, device="meta", requires_grad=True)
    c = prior.condition(torch.zeros(count, dtype=torch.long, device="meta"))
    if c is not None:
        c = c.detach().requires_grad_()
    return z, c, torch.empty_like(z) if prior.has_noise else None


def sweep(prior: Prior, inputs: Inputs) -> float:
    """Multiply-adds of decoding once; of a diffusion prior one denoiser call, times its calls."""
    if not isinstance(prior, DiffusionPrior):
        return multiply_adds(lambda: prior.decode(*inputs))
    z, c, _ = inputs
    context = prior.context(c)
    call = multiply_adds(lambda: prior.predict(z, prior.schedule.timesteps[0], context))
    image = multiply_adds(lambda: prior.autoencoder.draw(z))
    return prior.calls * call + image


def student_passes(spec: ObjectiveSettings, classes: int, images: int) -> float:
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


def effect_passes(recipe: Recipe, classes: int) -> float:
    """Forward passes that looking at the effects of real images amounts to, averaged over steps."""
    trim, gradients = recipe.distill.trim, recipe.objective.kind == "dc"
    if trim.share == 0:
        return 0
    image = 6.5 if gradients else 1.0  # its features, or its gradient: timed on convnet3
    product = (7.0 if gradients else 1.0) * recipe.ipc if trim.effect == "taylor" else 0.0
    return classes * recipe.objective.batch * (image + product) / trim.refresh


def decoding_plan(recipe: Recipe, prior: Prior, images: int) -> Plan:
    """How a process would decode its images; where it is measured, on this machine."""
    spec = recipe.prior
    if isinstance(prior, AutoencoderPrior | DiffusionPrior) and spec.memory == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return choose_plan(prior.needs(), images, free_bytes(device))
    return fixed_plan(spec.memory, spec.chunk) or Plan("fast")


def activation_bytes(prior: Prior, plan: Plan, images: int) -> float:
    """Bytes that backward needs at once: everything, or one step of one chunk beside all x_t."""
    if not isinstance(prior, AutoencoderPrior | DiffusionPrior):
        return 0
    needs = prior.needs()
    if plan.memory == "fast":
        return images * needs.whole
    calls = prior.calls if isinstance(prior, DiffusionPrior) else 1
    stored = 4 * math.prod(prior.latent_shape) * calls
    return min(plan.chunk or images, images) * needs.largest + images * stored


def latent_bytes(inputs: Inputs, prior: Prior, images: int) -> int:
    """Bytes of z, c, their momentum, and the noise, of all images."""
    z, c, _ = inputs
    learned = z.numel() + (0 if c is None else c.numel())
    return 4 * images * (2 * learned + (z.numel() if prior.has_noise else 0))


def prior_parameters(prior: Prior) -> int:
    """Numbers in the networks of a prior."""
    spaces = [getattr(prior, "autoencoder", None)]
    modules = [getattr(space, "autoencoder", space) for space in spaces if space is not None]
    denoiser = getattr(prior, "denoiser", None)
    modules += [part for part in vars(denoiser or object).values() if hasattr(part, "parameters")]
    return sum(p.numel() for module in modules for p in module.parameters())
