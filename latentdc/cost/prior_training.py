"""What training a small prior takes: an autoencoder, its latents, a UNet on them, a sample grid."""

import math
from typing import NamedTuple

import torch

from latentdc.cost.commands import summary
from latentdc.cost.stages import Hardware, Stage, Student, works
from latentdc.data.open import class_count, kept_size
from latentdc.draws import own_streams
from latentdc.errors import counted
from latentdc.estimates import UNKNOWN, in_bytes, multiply_adds, parameters
from latentdc.priors.denoisers import UNetDenoiser
from latentdc.priors.memory import kept_bytes
from latentdc.priors.small import build_autoencoder, build_unet
from latentdc.priors.training import GRID_GUIDANCE, GRID_STEPS, PER_CLASS, starting_prior
from latentdc.recipe.prior_training import PriorRecipe, UNetTraining

_STATE = 4 * 4  # bytes of a number: itself, its average and two moments of AdamW
_GRADIENT = 4  # and of its gradient


class _TermsCost(NamedTuple):
    """What the terms of a UNet's loss take beside its own passes.

    `passes` through the UNet in a step, whose activations are all kept; `work` in multiply-adds of
    a step; bytes of the memories of classes, `kept` with the state, and `held` for backward.
    """

    passes: int = 1
    work: float = 0
    kept: float = 0
    held: float = 0


def describe_prior(recipe: PriorRecipe, hardware: Hardware) -> str:
    """Lines of `quantity: value` for the training of a prior."""
    data, size = recipe.data, kept_size(recipe.data)
    classes = size.classes if size else class_count(data)
    lines = {"data": f"{data.source}, {data.resolution} px"}
    images = None if size is None else size.train * (1 + recipe.flip)
    lines["training images"] = UNKNOWN if size is None else f"{size.train:,}"
    first, encode, second, values = _networks(recipe, classes or 1)
    terms, latents = _terms(recipe.unet, classes or 1, values), 4 * (images or 0) * values
    found = []
    for name, network, spec, more, stored in (
        ("autoencoder", first, recipe.autoencoder, _TermsCost(), 0),
        ("UNet", second, recipe.unet, terms, latents),
    ):
        if name == "autoencoder" and recipe.start is not None:
            continue
        passes = more.passes * spec.batch * network.step
        memory = (_STATE + _GRADIENT) * network.weights + more.kept + more.held + stored
        memory += more.passes * spec.batch * network.activations
        told = f"{network.weights:,} parameters, {counted(spec.steps, 'step')} of {spec.batch}"
        told += f", {in_bytes(more.kept)} of latents of classes" * (more.kept > 0)
        state = {f"state of the {name}": 2 * (_STATE * network.weights + more.kept)}  # and the next
        work = spec.steps * (passes + more.work)
        found.append(Stage(f"training {name}", work, told, state, memory))
    encoding = None if images is None else images * encode
    told = UNKNOWN if images is None else f"{images:,} images"
    found.insert(-1, Stage("encoding", encoding, told, memory=2 * latents))  # in parts, then as one
    samples = (classes or 0) * PER_CLASS
    work = samples * (GRID_STEPS * 2 * second.forward + first.forward - encode)
    told = f"{samples:,} images in {GRID_STEPS} steps with guidance {GRID_GUIDANCE:g}"
    prior = {"prior": 2.0 * (first.weights + second.weights)}
    found.append(Stage("samples", None if classes is None else work, told, prior))
    return summary(lines, found, hardware)


def _terms(spec: UNetTraining, classes: int, values: int) -> _TermsCost:
    """Cost of the terms of a training on latents of so many values."""
    terms, passes = spec.terms, 2 if spec.terms.inversion else 1
    if not (terms.representativeness or terms.diversity):
        return _TermsCost(passes)
    # Two memories, real and predicted; of each a batch has its classes' rows, which it is compared
    # with there and back.
    bank, rows = 4 * classes * terms.memory * values, spec.batch * terms.memory * values
    return _TermsCost(passes, 2 * 2 * rows, 2 * bank, 2 * 4 * rows)


def _networks(recipe: PriorRecipe, classes: int) -> tuple[Student, float, Student, int]:
    """The autoencoder on one image, its encoder's work, the UNet on one latent, its values."""
    side = recipe.data.resolution
    if recipe.start is None:
        with own_streams(), torch.device("meta"):
            space = build_autoencoder(recipe.autoencoder, side)
            small = side // 2 ** (len(recipe.autoencoder.channels) - 1)
            shape = (recipe.autoencoder.latent_channels, small, small)
            names = [str(label) for label in range(classes)]
            unet, embedding = build_unet(recipe.unet, shape, names)
    else:
        start = starting_prior(recipe, torch.device("meta"))
        assert isinstance(start.denoiser, UNetDenoiser)
        space, shape = start.autoencoder.autoencoder, start.latent_shape
        unet, embedding = start.denoiser.network, start.denoiser.embedding
    with own_streams(), torch.device("meta"):
        two, one = (torch.zeros(n, 3, side, side) for n in (2, 1))
        z, pair = torch.zeros(1, *shape), torch.zeros(2, *shape)
        label, time = torch.zeros(1, dtype=torch.long), torch.zeros(1)
        encode = multiply_adds(lambda: space.encode(one))
        whole, step = works(space, lambda: space.decode(space.encode(one).latent_dist.mean))
        kept = kept_bytes(lambda: space.decode(space.encode(two).latent_dist.mean)) / 2
        first = Student(whole, kept, parameters(space), step=step)

        def denoise(x: torch.Tensor, labels: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            told: torch.Tensor = unet(x, times, encoder_hidden_states=embedding(labels)).sample
            return told

        forward, step = works(unet, lambda: denoise(z, label, time))
        kept = kept_bytes(lambda: denoise(pair, label.repeat(2), time.repeat(2))) / 2
    second = Student(forward, kept, parameters(unet) + parameters(embedding), step=step)
    return first, encode, second, math.prod(shape)
