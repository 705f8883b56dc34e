"""What sampling from a diffusion prior takes, guides and choices included."""

import math
from dataclasses import dataclass

from latentdc.cost.matching import decoding_plan, encoding, prior_inputs
from latentdc.cost.stages import SETS, Hardware, Sizes, Stage, classifier, student
from latentdc.estimates import in_bytes, multiply_adds
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.load import prior_parameters
from latentdc.recipe import Recipe


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
    recipe: Recipe, prior: DiffusionPrior, size: Sizes, hardware: Hardware
) -> tuple[Stage, dict[str, str]]:
    """The stage `sampling`, and lines of `quantity: value` about it."""
    settings, classes = recipe.sampling, size.classes
    passes = sampling_passes(recipe, prior, classes, size.kept)
    z, c, _ = prior_inputs(prior, 1)
    context = prior.context(c)
    call = multiply_adds(lambda: prior.predict(z, prior.schedule.timesteps[0], context))
    work = call * (passes.sampled + passes.inverted + passes.guided)
    work += passes.halves * multiply_adds(lambda: prior.noise_in(z, 0, c)) / 2
    work += passes.decoded * multiply_adds(lambda: prior.autoencoder.draw(z))
    work += passes.encoded * encoding(prior)
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
    plan = decoding_plan(recipe, needs.of_one_step(), settings.batch, hardware, weights)
    together = plan.together(settings.batch)
    held = together * needs.largest
    made = classes * settings.choice.candidates(recipe.ipc)
    names = {
        "classified": "classifiers",
        "followed": f"{settings.influence.network}, its training included",
    }
    asked = {of: getattr(passes, name) for name, of in names.items()}
    networks = "; ".join(f"{count:,} through {of}" for of, count in asked.items() if count)
    images, sample = classes * recipe.ipc, 3 * prior.resolution**2
    stage = Stage(
        "sampling",
        work,
        f"{made:,} images",
        disk={
            "sampled latents": 4 * made * z.numel(),
            SETS: 2 * images * (sample + 4 * z.numel()),
        },
        memory=weights + held,
    )
    return stage, {
        "sampled images": f"{made:,}, of which {images:,} stay",
        "samples denoised": ", ".join(told or ["none"]),
        "decoded and encoded": f"{passes.decoded:,} and {passes.encoded:,} images",
        **({"networks of guides and choice": f"{networks} (forward passes)"} if networks else {}),
        "memory of sampling": f"{together} images at a time, at most about "
        f"{in_bytes(held)} of activations",
    }
