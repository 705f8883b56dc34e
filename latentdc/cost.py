"""What a recipe would take, counted on networks without weights: nothing is decoded or trained.

Work is counted by torch's FLOP counter, in multiply-adds, and memory by the tensors that autograd
would keep, both on the `meta` device; only the time is a guess. What a student's objective costs is
in forward passes of it, of one image each.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import PartialState
from torch import Tensor

from latentdc.data.open import class_count, kept_size
from latentdc.data.vectors import vector_width
from latentdc.estimates import UNKNOWN, aligned, in_bytes, in_time, multiply_adds, seconds_for
from latentdc.images import unread_standardization
from latentdc.methods import takes_prior
from latentdc.methods.latents import most_together
from latentdc.methods.rates import PROBES
from latentdc.networks.build import build_network
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.files import WeightsMissing
from latentdc.priors.load import load_prior
from latentdc.priors.memory import Needs, Plan, choose_plan, fixed_plan, free_bytes
from latentdc.priors.pixel import sample_shape
from latentdc.recipe import ObjectiveSettings, Recipe
from latentdc.recipe.networks import PREFIX

Inputs = tuple[Tensor, Tensor | None, Tensor | None]  # z, c and noise


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
    if not takes_prior(recipe.method.kind):
        return aligned(lines)
    try:
        prior = load_prior(
            recipe.prior,
            resolution=recipe.data.resolution,
            normalization=unread,
            seed=recipe.seed,
            device="meta",
        )
    except WeightsMissing:
        prior = None
        lines["prior"] = f"{recipe.prior.weights or recipe.prior.kind}: {UNKNOWN}"
    if isinstance(prior, DiffusionPrior) and size is not None and recipe.samples:
        lines |= sampling_costs(recipe, prior, size.classes, kept)
    if prior and classes is not None and recipe.matches:
        lines |= _costs(recipe, prior, classes)
    return aligned(lines)


def _costs(recipe: Recipe, prior: Prior, classes: int) -> dict[str, str]:
    """Work, memory and disk of the distillation."""
    per_step = min(recipe.distill.classes_per_step or classes, classes)
    probes = PROBES if "auto" in (recipe.distill.lr_z, recipe.distill.lr_c) else 0
    steps = recipe.distill.steps + probes
    images, moved = classes * recipe.ipc, per_step * recipe.ipc
    processes = PartialState().num_processes
    here = most_together(classes, per_step, min(processes, classes)) * recipe.ipc
    denoises, space = recipe.objective.kind == "denoise", prior
    if denoises and isinstance(prior, DiffusionPrior):
        space = prior.autoencoder
    inputs = prior_inputs(space, 1)
    forward = sweep(prior, inputs, denoises=denoises)
    needs = prior.needs() if isinstance(prior, AutoencoderPrior | DiffusionPrior) else None
    plan = decoding_plan(recipe, needs, here)
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
        "steps": f"{steps:,}" + f", {PROBES} of them gradients that choose rates" * (probes > 0),
    }
    if per_step < classes:
        updates = recipe.distill.steps * per_step / classes
        lines["classes per step"] = (
            f"{per_step:,}, so that each class is moved {updates:,.0f} times"
        )
    if denoises:
        lines["denoiser"] = f"{moved:,} samples without guidance, forward and back, per step"
    elif isinstance(prior, DiffusionPrior):
        branches = 1 if prior.guidance == 1 else 2
        lines["denoiser"] = (
            f"{calls} calls per sweep, {moved * calls * branches:,} samples"
            f"{' with guidance' * (branches - 1)}; "
            f"{'2 sweeps' if again else '1 sweep'} forward and 1 back per step"
        )
    kept = latent_bytes(inputs, prior, images) / processes
    held = activation_bytes(prior, plan, needs, here)
    seconds = seconds_for(steps * work)
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


@dataclass
class Passes:
    """How many images sampling sends through each network; back to its input counts like forward.

    Attributes:
        sampled: through the denoiser, both branches of guidance being one.
        inverted: likewise, backwards in time.
        guided: likewise, back to the input.
        halves: through its first half, in one branch.
        decoded: through the decoder.
        encoded: through the encoder.
        classified: through the classifier of the real images.
        followed: through the network whose training `influence` follows, that training included.
    """

    sampled: int = 0
    inverted: int = 0
    guided: int = 0
    halves: int = 0
    decoded: int = 0
    encoded: int = 0
    classified: int = 0
    followed: int = 0


def sampling_passes(recipe: Recipe, prior: DiffusionPrior, classes: int, kept: int) -> Passes:
    """Of sampling `classes` from a core set of `kept` images."""
    settings, ipc, each = recipe.sampling, recipe.ipc, math.ceil(kept / classes)
    choice, steps = settings.choice, len(prior.schedule.timesteps)
    count, start = choice.candidates(ipc), prior.start_index(settings.strength)
    made, walked = classes * count, (steps - start) * settings.denoise
    found = Passes(sampled=made * walked, decoded=classes * ipc)
    gaussian = settings.anchors.kind == "gaussian"
    looks = {"features", "transport", "diversity"} & {*settings.guides}
    if settings.anchors.kind != "none" or looks or choice.sees == "latents":
        found.encoded = classes * (min(each, settings.anchors.inverted) if gaussian else each)
    found.inverted = found.encoded * walked * gaussian
    if choice.needs_classifier:
        found.decoded += made
        found.classified += made + kept * (choice.kind in ("centroids", "moments", "nearest"))
        found.classified += made * (choice.kind == "learnability")
    for name, guide in settings.guides.items():
        first, after = guide.window or (0, steps)
        acting = len(range(max(first, start), after))
        if name == "features":
            real = classes * math.ceil(count / settings.batch) * min(each, settings.features.real)
            found.halves += acting * (2 * made + real)
        elif name == "influence":
            spec = settings.influence
            found.guided += acting * made
            found.decoded += acting * 2 * made
            # A gradient of weights is 3 forward passes, its own gradient by the image 6.
            found.followed += 3 * kept * max(1, *spec.epochs)
            found.followed += len(spec.epochs) * 3 * classes * min(each, spec.real)
            found.followed += len(spec.epochs) * acting * 6 * made
        elif name == "learnability":
            found.guided += acting * made
            found.decoded += acting * 2 * made
            found.classified += acting * 2 * 2 * made  # of two networks
        elif name == "entropy":
            found.decoded += acting * 2 * made
            found.classified += acting * 2 * made
    return found


def sampling_costs(
    recipe: Recipe, prior: DiffusionPrior, classes: int, kept: int
) -> dict[str, str]:
    """Lines of `quantity: value` about sampling; arguments as of `sampling_passes`."""
    settings, passes = recipe.sampling, sampling_passes(recipe, prior, classes, kept)
    z, c, _ = prior_inputs(prior, 1)
    context = prior.context(c)
    image = torch.empty(1, 3, prior.resolution, prior.resolution, device="meta")
    call = multiply_adds(lambda: prior.predict(z, prior.schedule.timesteps[0], context))
    work = call * (passes.sampled + passes.inverted + passes.guided)
    work += passes.halves * multiply_adds(lambda: prior.noise_in(z, 0, c)) / 2
    work += passes.decoded * multiply_adds(lambda: prior.autoencoder.draw(z))
    work += passes.encoded * multiply_adds(lambda: prior.encode(image))
    scorer, followed = recipe.prune.scorer.network, settings.influence.network
    for count, name in ((passes.classified, scorer), (passes.followed, followed)):
        if count and not name.startswith(PREFIX):  # torchvision's are not made without weights
            network = build_network(name, num_classes=classes, resolution=prior.resolution)
            network = network.to("meta")
            work += count * multiply_adds(partial(network, image))
    branches = 2 if c is not None and prior.guidance != 1 else 1
    shares = {"": passes.sampled, " to invert": passes.inverted, " back for guides": passes.guided}
    told = [f"{branches * count:,}{what}" for what, count in shares.items() if count]
    if branches > 1 and told:
        told[-1] += " (with guidance)"
    if passes.halves:
        told.append(f"{passes.halves:,} through the first half of the denoiser")
    needs, device = prior.needs(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = fixed_plan(recipe.prior.memory, recipe.prior.chunk)
    one_step = replace(needs, whole=needs.largest)
    plan = plan or choose_plan(one_step, settings.batch, free_bytes(device))
    together, processes = plan.together(settings.batch), PartialState().num_processes
    made = classes * settings.choice.candidates(recipe.ipc)
    names = {"classified": "classifiers", "followed": f"{followed}, its training included"}
    asked = {of: getattr(passes, name) for name, of in names.items()}
    networks = "; ".join(f"{count:,} through {of}" for of, count in asked.items() if count)
    return {
        "sampled images": f"{made:,}, of which {classes * recipe.ipc:,} stay",
        "samples denoised": ", ".join(told or ["none"]),
        "decoded and encoded": f"{passes.decoded:,} and {passes.encoded:,} images",
        **({"networks of guides and choice": f"{networks} (forward passes)"} if networks else {}),
        "work of sampling": f"{work / 1e12:,.3g} TMAC",
        "memory of sampling": f"{together} images at a time, at most about "
        f"{in_bytes(together * needs.largest)} of activations",
        "time of sampling": f"very roughly {in_time(seconds_for(work) / processes)} on "
        f"{processes} process{'es' if processes > 1 else ''}",
    }


def prior_inputs(prior: Prior, count: int) -> Inputs:
    """What `count` images are decoded from; z and c ask for gradients."""
    z = torch.empty(count, *prior.latent_shape, device="meta", requires_grad=True)
    c = prior.condition(torch.zeros(count, dtype=torch.long, device="meta"))
    if c is not None:
        c = c.detach().requires_grad_()
    return z, c, torch.empty_like(z) if prior.has_noise else None


def sweep(prior: Prior, inputs: Inputs, *, denoises: bool = False) -> float:
    """Multiply-adds of decoding once; of a diffusion prior one denoiser call, times its calls.

    Where the objective `denoises` it is one call without guidance.
    """
    if not isinstance(prior, DiffusionPrior):
        return multiply_adds(lambda: prior.decode(*inputs))
    z, c, _ = inputs
    if denoises:
        return multiply_adds(lambda: prior.noise_in(z, 0, None))
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
    if spec.kind == "denoise":
        return 0
    real = classes * spec.batch
    if spec.kind != "dc":  # dm, or a function of the user's, which is taken for like it
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


def decoding_plan(recipe: Recipe, needs: Needs | None, images: int) -> Plan:
    """How a process would decode its images; where it is measured, on this machine."""
    spec = recipe.prior
    if needs is not None and spec.memory == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return choose_plan(needs, images, free_bytes(device))
    return fixed_plan(spec.memory, spec.chunk) or Plan("fast")


def activation_bytes(prior: Prior, plan: Plan, needs: Needs | None, images: int) -> float:
    """Bytes that backward needs at once: everything, or one step of one chunk beside all x_t."""
    if needs is None:
        return 0
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
