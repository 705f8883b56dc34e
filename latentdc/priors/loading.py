"""A prior by name, folder or Hub id: its parts loaded and put together."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch

from latentdc.arguments import require_a, require_whole
from latentdc.autograd import with_gradients
from latentdc.errors import InputError
from latentdc.images import Whitening
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.components import load_autoencoder, load_scheduler
from latentdc.priors.denoiser_kinds import (
    denoiser_parts,
    load_denoiser,
    refuse_guidance,
    refuse_unfed,
)
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.folder import (
    autoencoder_part,
    content_hash,
    find_part,
    outline_folder,
    prior_folder,
    read_config,
)
from latentdc.priors.memory import MemoryChoice
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.precision import Precision
from latentdc.priors.resolution import check_denoiser, downsampling, require_multiple
from latentdc.priors.sampler import Skip
from latentdc.priors.trial import try_autoencoder, try_denoiser
from latentdc.priors.tuning import network_of, tune
from latentdc.recipe import PriorSpec, Recipe
from latentdc.typed import show


@with_gradients
def load_prior(
    kind: Literal["pixel", "autoencoder", "diffusion"],
    weights: str | None = None,
    *,
    resolution: int,
    revision: str | None = None,
    steps: int = 10,
    guidance: float = 3.0,
    prompts: Mapping[str, str] | None = None,
    autoencoder: str | None = None,
    random_denoiser: int | None = None,
    skip: Skip = "x0",
    clamp: bool = True,
    whitening: Whitening | None = None,
    memory: MemoryChoice = "fast",
    chunk: int = 10,
    truncate: int | None = None,
    precision: Precision = "no",
    channels_last: bool = False,
    compile: bool = False,
    device: torch.device | str = "cpu",
) -> Prior:
    """A frozen prior for images of `resolution` pixels.

    Args:
        kind: space to optimise in.
        weights: name of a shipped prior, folder or Hub id; not needed for `pixel`.
        resolution: of the data set.
        revision: branch, tag or commit of a Hub id.
        steps: denoising steps of a diffusion prior.
        guidance: its classifier-free guidance; 1 for an unconditional one.
        prompts: for a text-conditional prior, the text that each class of the data set starts from,
            by name; others know their classes.
        autoencoder: folder or Hub id of one to take in place of the diffusion prior's own.
        random_denoiser: seed of weights to draw in place of the denoiser's; None keeps them.
        skip: its residual.
        clamp: of the pixel prior.
        whitening: of the pixel prior's space.
        memory: how decoding trades memory for work.
        chunk: images per chunk when memory is `low` or `replay`.
        truncate: gradient through the skip and the denoiser's last so many steps alone.
        precision: `bf16` runs denoiser and decoder in it.
        channels_last: layout of both.
        compile: run both through torch.compile.
        device: where the weights go, in float32; `meta` builds the networks from their configs
            alone, those that are on this disk or travel with the package.

    Raises:
        WeightsMissing: a Hub id that cannot be downloaded, or with `meta` is not here yet.
        InputError: weights incomplete, of an unknown kind or not of one model, a resolution that
            they cannot have, guidance without classes, texts without prompts.
    """
    spec = PriorSpec(
        kind=kind,
        weights=weights,
        revision=revision,
        steps=steps,
        guidance=guidance,
        autoencoder=autoencoder,
        denoiser="pretrained" if random_denoiser is None else "random",
        skip=skip,
        clamp=clamp,
        memory=memory,
        chunk=chunk,
        truncate=truncate,
        channels_last=channels_last,
        compile=compile,
    )
    resolution = require_whole(resolution, "resolution")
    if random_denoiser is not None:
        random_denoiser = Recipe(seed=random_denoiser).seed
    weights, autoencoder, guidance = spec.weights, spec.autoencoder, spec.guidance
    steps, chunk, truncate = spec.steps, spec.chunk, spec.truncate
    _check(prompts, whitening, precision, device)
    if kind == "pixel":
        return PixelPrior(resolution, clamp=clamp, whitening=whitening)
    if weights is None or kind not in ("autoencoder", "diffusion"):
        raise InputError(f"load_prior makes pixel, autoencoder and diffusion priors, got {kind!r}.")
    outline = torch.device(device).type == "meta"
    folder = _folder(weights, revision, outline=outline)
    space_folder = folder if autoencoder is None else _folder(autoencoder, outline=outline)
    networks = read_config(find_part(folder, "unet", "transformer")) if kind == "diffusion" else {}
    if kind == "diffusion":
        refuse_unfed(folder, networks)
        refuse_guidance(folder, networks, guidance)
    model = load_autoencoder(space_folder, device)
    factor = downsampling(model)
    require_multiple(autoencoder or weights, resolution, factor)
    identity = "outline"
    if not outline:
        identity = _identity(kind, folder, space_folder, random_denoiser)
    space = AutoencoderPrior(
        model,
        resolution=resolution,
        identity=identity,
        memory=memory if kind == "autoencoder" else "fast",
        chunk=chunk,
        precision="float32" if networks.get("addition_embed_type") == "text_time" else precision,
    )
    if not outline:
        try_autoencoder(autoencoder or weights, space, factor)
    tuned = partial(
        tune, device=space.device, channels_last=channels_last, compile=compile and not outline
    )
    tuned([model.decoder], precision=space.precision)
    if kind == "autoencoder":
        return space
    check_denoiser(weights, networks, space.latent_shape[0], space.latent_shape[1], factor)
    denoiser, class_names = load_denoiser(folder, space, seed=random_denoiser, prompts=prompts)
    prior = DiffusionPrior(
        space,
        denoiser,
        load_scheduler(folder),
        class_names=class_names,
        steps=steps,
        guidance=guidance,
        skip=skip,
        memory=memory,
        chunk=chunk,
        truncate=truncate,
        identity=identity,
        precision=precision,
    )
    if not outline:
        try_denoiser(weights, prior)
    tuned([network_of(denoiser)], precision=precision)
    return prior


def _check(
    prompts: object, whitening: object, precision: object, device: torch.device | str
) -> None:
    """Refuse arguments that no recipe has."""
    if whitening is not None:
        require_a(Whitening, whitening, "whitening", "it is fitted on a training split (data.zca)")
    texts = isinstance(prompts, Mapping) and all(
        isinstance(one, str) for pair in prompts.items() for one in pair
    )
    if prompts is not None and not (texts and prompts):
        raise InputError(
            'prompts maps class names to texts, such as {"cat": "a photo of a cat"}, got '
            f"{show(prompts)}."
        )
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {get_args(Precision)}, got {show(precision)}.")
    try:
        torch.empty(0, device=device)
    except Exception as error:  # of many kinds, with pages of text
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"device={show(device)} cannot be used here: {reason}") from error


def _folder(weights: str, revision: str | None = None, *, outline: bool) -> Path:
    known = outline_folder(weights) if outline else None
    return known or prior_folder(weights, revision, local_only=outline)


def _identity(kind: str, folder: Path, space: Path, seed: int | None) -> str:
    """Of all files that are read, and of the seed that weights are drawn from."""
    own = autoencoder_part(space)
    if kind == "autoencoder":
        return content_hash(space, [own])
    denoiser, *beside = denoiser_parts(folder)
    parts = [denoiser, *beside, folder / "scheduler", *([own] if space == folder else [])]
    identity = content_hash(folder, parts, drawn=[] if seed is None else [denoiser])
    if space != folder:
        identity = f"{identity}, autoencoder {content_hash(space, [own])}"
    return identity if seed is None else f"{identity}, denoiser random from {seed}"
