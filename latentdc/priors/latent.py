"""Autoencoders and latent diffusion models by name, folder or Hub id: loaded and put together."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from latentdc.errors import InputError
from latentdc.priors import checks, files
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Precision, keep_in_bf16
from latentdc.priors.denoisers import load_denoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import fixed_plan
from latentdc.priors.parts import load_autoencoder, load_scheduler, told
from latentdc.priors.sampler import make_schedule
from latentdc.recipe import PriorSettings


def load_latent_prior(
    settings: PriorSettings,
    resolution: int,
    *,
    prompts: Mapping[str, str] | None,
    seed: int,
    precision: Precision,
    device: torch.device | str,
) -> AutoencoderPrior | DiffusionPrior:
    """A prior that has weights; the rest is as of `load_prior`.

    Args:
        settings: which one.
        resolution: of the images.
        prompts: of each class, for a text-conditional prior.
        seed: of a denoiser whose weights are drawn.
        precision: of denoiser and decoder.
        device: for the weights.
    """
    weights, autoencoder = settings.weights, settings.autoencoder or settings.weights
    assert weights is not None and autoencoder is not None
    drawn = int(seed) if settings.denoiser == "random" else None
    outline = torch.device(device).type == "meta"
    folder = _folder(weights, settings.revision, outline=outline)
    other = settings.autoencoder is not None
    space_folder = _folder(autoencoder, outline=outline) if other else folder
    parts = files.denoiser_parts(folder) if settings.kind == "diffusion" else []
    config = files.read_config(parts[0]) if parts else {}
    if parts:
        checks.refuse_unfed(folder, config)
        checks.refuse_guidance(folder, config, settings.guidance)
        scheduler = load_scheduler(folder)
        make_schedule(scheduler, settings.steps, settings.flow)  # refused before weights are read
    own = files.autoencoder_part(space_folder)
    model = load_autoencoder(own, device)
    factor = checks.downsampling(model)
    checks.require_multiple(autoencoder, resolution, factor)
    space = AutoencoderPrior(
        model,
        resolution=resolution,
        identity="outline" if outline else _identity(folder, parts, space_folder, own, drawn),
        plan=fixed_plan(settings.memory, settings.chunk),
        precision="float32" if config.get("addition_embed_type") == "text_time" else precision,
    )
    if not outline:
        checks.try_autoencoder(autoencoder, space, factor)
    tuned = partial(
        tune,
        device=space.device,
        channels_last=settings.channels_last,
        compile=settings.compile and not outline,
    )
    tuned([model.decoder], precision=space.precision)
    if not parts:
        return space
    with told(f"the denoiser of {weights} does not run as its config says"):
        checks.check_denoiser(weights, config, space.latent_shape[0], space.latent_shape[1], factor)
    denoiser, class_names = load_denoiser(folder, parts, config, space, seed=drawn, prompts=prompts)
    prior = DiffusionPrior(
        space, denoiser, scheduler, settings, class_names=class_names, precision=precision
    )
    if not outline:
        checks.try_denoiser(weights, prior)
    tuned([denoiser.network], precision=precision)
    return prior


def _folder(weights: str, revision: str | None = None, *, outline: bool) -> Path:
    known = files.outline_folder(weights) if outline else None
    return known or files.prior_folder(weights, revision, local_only=outline)


def _identity(folder: Path, parts: Sequence[Path], space: Path, own: Path, seed: int | None) -> str:
    """Of all files that are read, and of the seed that weights are drawn from.

    Args:
        folder: of the prior.
        parts: of its denoiser, that one first; none of an autoencoder alone.
        space: folder of the prior that the autoencoder is of.
        own: the autoencoder's folder.
        seed: of a denoiser whose weights are drawn.
    """
    if not parts:
        return files.content_hash(space, [own])
    inside = [*parts, folder / "scheduler", *([own] if space == folder else [])]
    identity = files.content_hash(folder, inside, drawn=[] if seed is None else [parts[0]])
    if space != folder:
        identity = f"{identity}, autoencoder {files.content_hash(space, [own])}"
    return identity if seed is None else f"{identity}, denoiser random from {seed}"


def tune(
    networks: Sequence[nn.Module],
    device: torch.device,
    *,
    precision: Precision,
    channels_last: bool,
    compile: bool,
) -> None:
    """Change how `networks` run, in place; what they compute stays the same but for rounding.

    Args:
        networks: the denoiser and the decoder.
        device: where they run.
        precision: of the autocast that they will run under.
        channels_last: keep the weights of convolutions, and with them activations, in that layout.
        compile: run them through torch.compile.

    Raises:
        InputError: torch.compile does not work here.
    """
    if compile:
        _require_compiler(device)
    for network in networks:
        if precision == "bf16":
            keep_in_bf16(network)
        if channels_last:
            network.to(memory_format=torch.channels_last)
        if compile:
            network.compile(dynamic=False)  # one image is measured, many are decoded


def _require_compiler(device: torch.device) -> None:
    """Compile something small, which needs all that compiling something large does."""
    probe = torch.compile(lambda x: (x + 1).sin())
    try:
        with warnings.catch_warnings(action="ignore"):
            probe(torch.ones(8, device=device))
    except Exception as error:  # the compiler's own, of many kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"prior.compile: torch.compile does not work on this machine's {device.type} "
            f"({reason[0]}); install the C++ compiler that it needs, or leave prior.compile out."
        ) from error
