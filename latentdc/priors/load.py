"""A prior by name, folder or Hub id: its parts loaded and put together."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from torch import nn

from latentdc.arguments import class_names_of, require_a, require_able, require_seed, require_whole
from latentdc.errors import InputError
from latentdc.images import Normalization, Preprocessing, Standardization, Whitening
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Precision, Prior, keep_in_bf16
from latentdc.priors.checks import (
    check_denoiser,
    downsampling,
    refuse_guidance,
    refuse_unfed,
    require_multiple,
    try_autoencoder,
    try_denoiser,
)
from latentdc.priors.classes import class_prompts
from latentdc.priors.denoisers import load_denoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.files import (
    WeightsMissing,
    autoencoder_part,
    content_hash,
    denoiser_parts,
    outline_folder,
    prior_folder,
    read_config,
)
from latentdc.priors.memory import fixed_plan
from latentdc.priors.parts import load_autoencoder, load_scheduler, told
from latentdc.priors.pixel import PixelPrior, VectorPrior
from latentdc.priors.sampler import make_schedule
from latentdc.recipe import PriorSettings
from latentdc.recipe.fields import show
from latentdc.recipe.own import call, failed, is_own, resolve
from latentdc.runtime import with_gradients


@with_gradients
def load_prior(
    settings: PriorSettings,
    *,
    resolution: int,
    class_names: Sequence[str] | None = None,
    normalization: Preprocessing | None = None,
    seed: int = 0,
    precision: Precision = "no",
    device: torch.device | str = "cpu",
) -> Prior:
    """A frozen prior for a data set.

    Args:
        settings: which one, and how it decodes.
        resolution: of the data set's images; feature vectors have none.
        class_names: of the data set, from which a text-conditional prior makes its prompts; others
            know their classes.
        normalization: what networks see of images. If it whitens, pixels are whitened ones; the
            space of vectors is what they see of these.
        seed: of a denoiser whose weights are drawn.
        precision: `bf16` runs denoiser and decoder in it.
        device: where the weights go, in float32; `meta` builds the networks from their configs
            alone, those that are on this disk or travel with the package.

    Raises:
        WeightsMissing: a Hub id that cannot be downloaded, or with `meta` is not here yet.
        InputError: weights incomplete, of an unknown kind or not of one model, a resolution that
            they cannot have, guidance without classes, texts without class names.
    """
    require_a(PriorSettings, settings, "settings", 'such as PriorSettings(weights="digits")')
    _check_device(device)
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {get_args(Precision)}, got {show(precision)}.")
    if is_own(settings.kind):
        offered = {"class_names": class_names, "normalization": normalization, "seed": seed}
        return _own(settings, resolution=resolution, device=device, **offered)
    if settings.kind == "vector":
        hint = "it is fitted on a data set of vectors"
        require_a(Standardization, normalization, "normalization", hint)
        assert isinstance(normalization, Standardization)
        return VectorPrior(normalization)
    resolution = require_whole(resolution, "resolution")
    require_seed(seed)
    prompts = None
    if class_names is not None:
        names = class_names_of(class_names, "load_prior")
        prompts = class_prompts(names, settings.prompt, settings.names)
    if not isinstance(normalization, Normalization | Whitening | None):
        raise InputError(
            f"normalization is a Normalization or a Whitening, got {show(normalization)}; "
            "it is what networks see of images."
        )
    if settings.kind == "pixel":
        whitening = normalization if isinstance(normalization, Whitening) else None
        return PixelPrior(resolution, clamp=settings.clamp, whitening=whitening)
    if is_own(settings.weights):
        with _saved(str(settings.weights)) as folder:
            settings = replace(settings, weights=folder)
            return _load(settings, resolution, prompts, seed, precision, device)
    return _load(settings, resolution, prompts, seed, precision, device)


def _own(settings: PriorSettings, *, resolution: int, device: Any, **offered: Any) -> Prior:
    """A prior of the user's code, after one batch has gone there and back.

    Raises:
        WeightsMissing: with `meta`, where nothing can be known of it.
        InputError: it lacks something of `Prior`, or gives other shapes or no finite values.
    """
    kind = settings.kind
    if torch.device(device).type == "meta":
        raise WeightsMissing(f"prior.kind={kind} is known when it is made.")
    offered |= {"settings": settings, "resolution": resolution, "device": device}
    found = resolve(kind, "prior.kind")
    is_prior = hasattr(found, "decode") and not isinstance(found, type)
    prior: Prior = found if is_prior else call(found, "prior.kind", kind, **offered)
    label = f"prior.kind={kind.partition('#')[0]}"
    parts = "resolution has_noise class_names identity latent_shape encode condition decode"
    require_able(parts, prior, label, "something that has all of latentdc.Prior")
    source = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, resolution, resolution, generator=source).mul(2).sub(1).to(device)
    try:
        z = prior.encode(images).detach().requires_grad_()
        c = prior.condition(torch.zeros(2, dtype=torch.int64, device=device))
        with torch.enable_grad():
            decoded = prior.decode(z, c, torch.randn_like(z) if prior.has_noise else None)
            (gradient,) = torch.autograd.grad(decoded.sum(), [z])
    except Exception as error:
        raise failed(label, "fails on two random images", error) from error
    for what, tensor, shape in (
        ("encode gives", z, (2, *prior.latent_shape)),
        ("decode gives", decoded, tuple(images.shape)),
        ("decode has a gradient", gradient, (2, *prior.latent_shape)),
    ):
        if tensor.shape != shape or not bool(tensor.isfinite().all()):
            raise InputError(
                f"{label}: {what} {tuple(tensor.shape)} of 2 images of {resolution} px, and "
                f"finite values of {shape} are meant."
            )
    return prior


@contextmanager
def _saved(weights: str) -> Iterator[str]:
    """The folder of a pipeline that is in memory, or that the user's function makes."""
    pipeline = resolve(weights, "prior.weights")
    if not hasattr(pipeline, "save_pretrained") or isinstance(pipeline, type):
        pipeline = call(pipeline, "prior.weights", weights)
    label = f"prior.weights={weights.partition('#')[0]}"
    require_able("save_pretrained", pipeline, label, "a pipeline or autoencoder of diffusers")
    with TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder)
        yield folder


def _load(
    settings: PriorSettings,
    resolution: int,
    prompts: Mapping[str, str] | None,
    seed: int,
    precision: Precision,
    device: torch.device | str,
) -> Prior:
    """A prior that has weights."""
    weights, autoencoder = settings.weights, settings.autoencoder or settings.weights
    assert weights is not None and autoencoder is not None
    drawn = int(seed) if settings.denoiser == "random" else None
    outline = torch.device(device).type == "meta"
    folder = _folder(weights, settings.revision, outline=outline)
    other = settings.autoencoder is not None
    space_folder = _folder(autoencoder, outline=outline) if other else folder
    parts = denoiser_parts(folder) if settings.kind == "diffusion" else []
    config = read_config(parts[0]) if parts else {}
    if parts:
        refuse_unfed(folder, config)
        refuse_guidance(folder, config, settings.guidance)
        scheduler = load_scheduler(folder)
        make_schedule(scheduler, settings.steps, settings.flow)  # refused before weights are read
    own = autoencoder_part(space_folder)
    model = load_autoencoder(own, device)
    factor = downsampling(model)
    require_multiple(autoencoder, resolution, factor)
    space = AutoencoderPrior(
        model,
        resolution=resolution,
        identity="outline" if outline else _identity(folder, parts, space_folder, own, drawn),
        plan=fixed_plan(settings.memory, settings.chunk),
        precision="float32" if config.get("addition_embed_type") == "text_time" else precision,
    )
    if not outline:
        try_autoencoder(autoencoder, space, factor)
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
        check_denoiser(weights, config, space.latent_shape[0], space.latent_shape[1], factor)
    denoiser, class_names = load_denoiser(folder, parts, config, space, seed=drawn, prompts=prompts)
    prior = DiffusionPrior(
        space, denoiser, scheduler, settings, class_names=class_names, precision=precision
    )
    if not outline:
        try_denoiser(weights, prior)
    tuned([denoiser.network], precision=precision)
    return prior


def _check_device(device: torch.device | str) -> None:
    try:
        torch.empty(0, device=device)
    except Exception as error:  # of many kinds, with pages of text
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"device={show(device)} cannot be used here: {reason}") from error


def _folder(weights: str, revision: str | None = None, *, outline: bool) -> Path:
    known = outline_folder(weights) if outline else None
    return known or prior_folder(weights, revision, local_only=outline)


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
        return content_hash(space, [own])
    inside = [*parts, folder / "scheduler", *([own] if space == folder else [])]
    identity = content_hash(folder, inside, drawn=[] if seed is None else [parts[0]])
    if space != folder:
        identity = f"{identity}, autoencoder {content_hash(space, [own])}"
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
