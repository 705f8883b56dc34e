"""What the methods take that need a prior: matching, and sampling with its guides and choices."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from latentdc.checkpoint import KEPT
from latentdc.cost.stages import SETS, Counted, Hardware, Sizes, Stage, classifier, student
from latentdc.errors import counted
from latentdc.estimates import in_bytes, in_work, multiply_adds
from latentdc.methods.latents import most_together
from latentdc.methods.rates import most_trial_steps
from latentdc.networks.base import batch_norms
from latentdc.networks.build import outline
from latentdc.priors.base import Prior
from latentdc.priors.load import prior_parameters
from latentdc.priors.memory import Needs, Plan, choose_plan, fixed_plan, kept_bytes
from latentdc.priors.pixel import PixelPrior, VectorPrior, sample_shape
from latentdc.recipe import ObjectiveSettings, Recipe

if TYPE_CHECKING:  # importing diffusers takes seconds, which pixels do without
    from latentdc.priors.autoencoder import AutoencoderPrior
    from latentdc.priors.diffusion import DiffusionPrior

Inputs = tuple[Tensor, Tensor | None, Tensor | None]  # z, c and noise
_LOWEST = Plan("low", 1)  # what fits wherever one image does


def matching_costs(recipe: Recipe, prior: Prior, classes: int, hardware: Hardware) -> Counted:
    """The stage `distilling`, and lines of `quantity: value` about it."""
    settings, ipc, processes = recipe.distill, recipe.ipc, hardware.processes
    per_step = min(settings.classes_per_step or classes, classes)
    images, moved = classes * ipc, per_step * ipc
    here = most_together(classes, per_step, min(processes, classes)) * ipc
    denoises, space = recipe.objective.kind == "denoise", prior
    if denoises and _has_denoiser(prior):
        space = prior.autoencoder
    inputs = _prior_inputs(space)
    trials = most_trial_steps(settings, conditioned=inputs[1] is not None)
    steps = settings.steps + trials
    needs = _backward_needs(prior, inputs, denoises=denoises)
    z, c, noise = (4 * images * (0 if one is None else one.numel()) for one in inputs)  # bytes
    learned, weights = z + c, 4 * prior_parameters(prior)
    kept_latents = learned + noise + (2 if settings.optimizer == "adam" else 1) * learned  # momenta
    lying = (kept_latents + learned * (trials > 0)) / processes  # trials move a copy
    kept = weights + lying
    apart = ipc if _classes_apart(recipe.objective, classes, prior.resolution) else None
    plan = _decoding_plan(recipe, needs, here, hardware, kept, ipc=apart)
    if denoises and recipe.prior.memory == "auto":
        from latentdc.objectives.denoise import DENOISED

        plan = Plan("low", DENOISED)  # whatever the device
    # Backward to the inputs costs one forward; a denoised latent is never computed again.
    sweeps = 2 if denoises else plan.sweeps(here, _calls_of(prior))
    of_prior = moved * _prior_work(prior, inputs, plan, sweeps, denoises=denoises)
    network = student(recipe.objective.network, classes, prior.resolution)
    passes = _student_passes(recipe.objective, per_step, moved) + _effect_passes(recipe, per_step)
    of_student = passes * network.forward
    begin = images * _encoding(prior) * (settings.init == "real")
    end = images * sweep(space, inputs)
    held = _activation_bytes(space, plan, needs, here)
    # The objective is shared where classes can be told apart, or looks at each image by itself.
    shared = here / moved if apart or denoises else 1.0
    own = most_together(classes, None, min(processes, classes)) / classes
    stage = Stage(
        "distilling",
        steps * (of_prior + of_student) + begin + end,
        f"{counted(steps, 'step')} of {in_work(of_prior)} in the prior and {in_work(of_student)} "
        f"in students, {in_work(begin)} to encode and {in_work(end)} to decode {images:,} images",
        disk={
            f"{KEPT} checkpoints and the next one": (KEPT + 1) * kept_latents,
            SETS: 2 * (learned + noise + images * math.prod(sample_shape(prior))),
        },
        memory=kept + held,
        busiest=steps * (of_prior * here / moved + of_student * shared) + own * (begin + end),
    )
    sizes = {"z": prior.latent_shape, "c": None if inputs[1] is None else inputs[1].shape[1:]}
    shapes = ", ".join(f"{k} {tuple(v)}" for k, v in sizes.items() if v is not None)
    updates = settings.steps * per_step / classes
    lines = {
        "synthetic images": f"{images:,} ({ipc} per class)",
        "latents": f"{shapes} per image, {in_bytes(learned)} in all",
        "steps": f"{steps:,}" + f", up to {trials:,} of them trials of rates" * (trials > 0),
        "classes per step": (per_step < classes)
        * f"{per_step:,}, so that each class is moved {updates:,.0f} times",
        "denoiser": _told_calls(prior, moved, sweeps, denoises=denoises),
        "work per step": f"{(of_prior + of_student) / 1e9:,.1f} GMAC, {of_prior / 1e9:,.1f} of "
        "them in the prior",
        "memory per process": f"{in_bytes(lying)} of latents, noise and momentum, about "
        f"{in_bytes(held)} of activations in backward "
        f"({_told_plan(recipe, plan, needs, hardware)}), on "
        f"{processes} process{'es' if processes > 1 else ''}",
        "weights": in_bytes(weights),
    }
    return [stage], {name: told for name, told in lines.items() if told}


def _has_networks(prior: Prior) -> "TypeGuard[AutoencoderPrior | DiffusionPrior]":
    """Whether images are decoded by networks."""
    return not isinstance(prior, PixelPrior | VectorPrior)


def _has_denoiser(prior: Prior) -> "TypeGuard[DiffusionPrior]":
    """Whether it is a diffusion prior."""
    if not _has_networks(prior):
        return False
    from latentdc.priors.diffusion import DiffusionPrior

    return isinstance(prior, DiffusionPrior)


def _prior_inputs(prior: Prior) -> Inputs:
    """What an image is decoded from; z and c ask for gradients."""
    z = torch.empty(1, *prior.latent_shape, device="meta", requires_grad=True)
    c = prior.condition(torch.zeros(1, dtype=torch.long, device="meta"))
    if c is not None:
        c = c.detach().requires_grad_()
    return z, c, torch.empty_like(z) if prior.has_noise else None


def _backward_needs(prior: Prior, inputs: Inputs, *, denoises: bool) -> Needs | None:
    """What backward keeps of one image, or of one call of the denoiser; None without networks."""
    if denoises:
        assert _has_denoiser(prior)
        z, c, _ = inputs
        return Needs(step=0, calls=0, decoder=kept_bytes(lambda: prior.noise_in(z, 0, c)))
    return prior.needs() if _has_networks(prior) else None


def _prior_work(
    prior: Prior, inputs: Inputs, plan: Plan, sweeps: float, *, denoises: bool
) -> float:
    """Multiply-adds of one image in the prior, in a step of so many sweeps."""
    work = sweeps * sweep(prior, inputs, denoises=denoises)
    again = plan.memory == "mixed" and not denoises  # every image is decoded once more
    if again and _has_denoiser(prior):
        work += (3 - sweeps) * _decoding(prior, inputs[0])
    return work


def sweep(prior: Prior, inputs: Inputs, *, denoises: bool = False) -> float:
    """Multiply-adds of decoding once; of a diffusion prior one denoiser call, times its calls.

    Where the objective `denoises` it is one call without guidance.
    """
    if not _has_denoiser(prior):
        return multiply_adds(lambda: prior.decode(*inputs))
    z, c, _ = inputs
    if denoises:
        return multiply_adds(lambda: prior.noise_in(z, 0, None))
    return prior.calls * _denoising(prior, z, c) + _decoding(prior, z)


def _denoising(prior: "DiffusionPrior", z: Tensor, c: Tensor | None) -> float:
    """Multiply-adds of one step of the denoiser for one latent, guidance included."""
    context = prior.context(c)
    return multiply_adds(lambda: prior.predict(z, prior.schedule.timesteps[0], context))


def _decoding(prior: "DiffusionPrior", z: Tensor) -> float:
    """Multiply-adds of the decoder for the image of one latent."""
    return multiply_adds(lambda: prior.autoencoder.decode_chunk(z))


def _calls_of(prior: Prior) -> int:
    """Calls of a denoiser in one sweep."""
    return prior.calls if _has_denoiser(prior) else 1


def _classes_apart(spec: ObjectiveSettings, classes: int, resolution: int) -> bool:
    """Whether the objective is a sum over classes that can be matched one after the other."""
    loops = spec.kind == "dc" and spec.loops.outer not in (None, 1)
    if spec.kind in ("mtt", "denoise") or loops:
        return False
    return not batch_norms(outline(spec.network, num_classes=classes, resolution=resolution))


def _student_passes(spec: ObjectiveSettings, classes: int, images: int) -> float:
    """Forward passes of a student, each of one image, that a step's objective amounts to."""
    if spec.kind == "mtt":
        trajectory = spec.trajectory
        of_step = {"unrolled": 8.5, "replayed": 11.7, "constant": 10.7}  # counted on convnet3
        batch = min(trajectory.batch_syn or images, images)
        once = 3 * (trajectory.form != "unrolled")  # forward and back of the last step
        return (of_step[trajectory.form] * trajectory.syn_steps - once) * batch
    if spec.kind == "denoise":
        return 0
    real = classes * spec.batch
    if spec.kind != "dc":  # dm, or a function of the user's, which is taken for like it
        return real + 2 * images
    outer, inner = spec.loops.outer or 1, spec.loops.inner or 1
    return 3 * real + 6 * images + 3 * images * inner * (outer - 1) / outer


def _effect_passes(recipe: Recipe, classes: int) -> float:
    """Forward passes that looking at the effects of real images amounts to, averaged over steps."""
    trim, gradients = recipe.distill.trim, recipe.objective.kind == "dc"
    if trim.share == 0:
        return 0
    image = 6.5 if gradients else 1.0  # its features, or its gradient: timed on convnet3
    product = (7.0 if gradients else 1.0) * recipe.ipc if trim.effect == "taylor" else 0.0
    return classes * recipe.objective.batch * (image + product) / trim.refresh


def _decoding_plan(
    recipe: Recipe,
    needs: Needs | None,
    images: int,
    hardware: Hardware,
    kept: float,
    *,
    ipc: int | None = None,
) -> Plan:
    """How a process decodes its images; the least memory where that of the device is not told.

    `needs` are of one image, None of priors without networks; `images` those of a process, in a
    step; `kept` the bytes of weights and latents; `ipc` as of `choose_plan`.
    """
    if needs is None:
        return Plan("fast")
    if (plan := fixed_plan(recipe.prior.memory, recipe.prior.chunk)) is not None:
        return plan
    if hardware.memory is None:
        return _LOWEST
    return choose_plan(needs, images, int(max(0, hardware.memory - kept)), ipc=ipc)


def _told_calls(prior: Prior, images: int, sweeps: float, *, denoises: bool) -> str:
    """Calls of a denoiser in a step of so many images and sweeps; nothing of other priors."""
    if denoises:
        return f"{images:,} samples without guidance, forward and back, per step"
    if not _has_denoiser(prior):
        return ""
    branches = 1 if prior.guidance == 1 else 2
    samples = f"{images * prior.calls * branches:,} samples{' with guidance' * (branches - 1)}"
    forward = f"{sweeps - 1:.3g} sweep{'s' if sweeps != 2 else ''}"
    return f"{prior.calls} calls per sweep, {samples}; {forward} forward and 1 back per step"


def _told_plan(recipe: Recipe, plan: Plan, needs: Needs | None, hardware: Hardware) -> str:
    """The plan in words, and whether it is the device's."""
    if needs is None or recipe.prior.memory != "auto":
        return plan.memory
    if recipe.objective.kind == "denoise":
        return f"{plan.chunk} at a time"
    if hardware.memory is None:
        return f"{plan.memory}, {plan.chunk} at a time; --device-memory=80GB says what fits there"
    together = plan.group or plan.chunk
    chunk = "" if together is None else f", {together} at a time"
    if plan.kept_steps and plan.group:
        chunk += f" with {plan.kept_steps} of {plan.group * needs.calls} denoising steps kept"
    return f"{plan.memory}{chunk}, for a device of {in_bytes(hardware.memory)}"


def _activation_bytes(prior: Prior, plan: Plan, needs: Needs | None, images: int) -> float:
    """Bytes that backward needs at once: what the plan keeps, beside all x_t."""
    if needs is None:
        return 0
    stored = 0 if plan.memory == "fast" else 4 * math.prod(prior.latent_shape) * _calls_of(prior)
    return plan.held(needs, images) + min(plan.group or images, images) * stored


def _encoding(prior: Prior) -> float:
    """Multiply-adds of encoding one image."""
    image = torch.empty(1, *sample_shape(prior), device="meta")
    return multiply_adds(lambda: prior.encode(image))


@dataclass
class Passes:
    """How many images sampling sends through each network; back to its input counts like forward.

    Attributes:
        sampled: through the denoiser, both branches of guidance being one.
        inverted: likewise, backwards in time.
        guided: likewise, back to the input.
        halves: through it up to its middle block, in one branch.
        decoded: through the decoder.
        encoded: through the encoder.
        classified: through the classifier of the real images.
        followed: through the network whose snapshots `influence` asks.
    """

    sampled: int = 0
    inverted: int = 0
    guided: int = 0
    halves: int = 0
    decoded: int = 0
    encoded: int = 0
    classified: int = 0
    followed: int = 0


def _sampling_passes(recipe: Recipe, prior: "DiffusionPrior", classes: int, kept: int) -> Passes:
    """Passes of sampling `classes` from a core set of `kept` images."""
    settings, ipc, each = recipe.sampling, recipe.ipc, math.ceil(kept / classes)
    choice, steps = settings.choice, len(prior.schedule.timesteps)
    count, start = choice.candidates(ipc), prior.start_index(settings.strength)
    made, walked = classes * count, (steps - start) * settings.denoise
    found = Passes(sampled=made * walked, decoded=classes * ipc)
    gaussian = settings.anchors.kind == "gaussian"
    if settings.asks_latents:
        found.encoded = classes * (min(each, settings.anchors.inverted) if gaussian else each)
    found.inverted = found.encoded * walked * gaussian
    if choice.needs_classifier:
        found.decoded += made
        found.classified += made + kept * choice.compares_points
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
    recipe: Recipe, prior: "DiffusionPrior", size: Sizes, hardware: Hardware
) -> Counted:
    """The stage `sampling`, and lines of `quantity: value` about it."""
    settings, classes = recipe.sampling, size.classes
    passes = _sampling_passes(recipe, prior, classes, size.kept)
    z, c, _ = _prior_inputs(prior)
    work = _denoising(prior, z, c) * (passes.sampled + passes.inverted + passes.guided)
    if passes.halves:
        work += passes.halves * multiply_adds(lambda: prior.features(z, 0, c))
    work += passes.decoded * _decoding(prior, z)
    work += passes.encoded * _encoding(prior)
    if passes.classified:
        scorer = recipe.prune.scorer
        side = scorer.resolution or prior.resolution
        work += passes.classified * classifier(scorer, classes, side).forward
    if passes.followed:
        followed = student(settings.influence.network, classes, prior.resolution)
        work += passes.followed * followed.forward
    branches = 2 if c is not None and prior.guidance != 1 else 1
    shares = {"": passes.sampled, " to invert": passes.inverted, " back for guides": passes.guided}
    told = [f"{branches * count:,}{what}" for what, count in shares.items() if count]
    if branches > 1 and told:
        told[-1] += " (with guidance)"
    if passes.halves:
        told.append(f"{passes.halves:,} through the first half of the denoiser")
    needs, weights = prior.needs(), 4 * prior_parameters(prior)
    plan = _decoding_plan(recipe, needs.of_one_step(), settings.batch, hardware, weights)
    together = plan.together(settings.batch)
    held = together * needs.largest
    made = classes * settings.choice.candidates(recipe.ipc)
    share = most_together(classes, None, min(hardware.processes, classes)) / classes
    kept = 4 * made * z.numel()
    asked = {"classifiers": passes.classified, settings.influence.network: passes.followed}
    networks = "; ".join(f"{count:,} through {of}" for of, count in asked.items() if count)
    images, sample = classes * recipe.ipc, 3 * prior.resolution**2
    stage = Stage(
        "sampling",
        work,
        f"{made:,} images",
        disk={
            f"{KEPT} checkpoints of samples and the next one": (KEPT + 1) * kept,
            SETS: 2 * images * (sample + 4 * z.numel()),
        },
        memory=weights + held + share * kept,
        busiest=work * share,
    )
    return [stage], {
        "sampled images": f"{made:,}, of which {images:,} stay",
        "samples denoised": ", ".join(told or ["none"]),
        "decoded and encoded": f"{passes.decoded:,} and {passes.encoded:,} images",
        **({"networks of guides and choice": f"{networks} (forward passes)"} if networks else {}),
        "memory of sampling": f"{counted(together, 'image')} at a time, at most about "
        f"{in_bytes(held)} of activations",
    }
