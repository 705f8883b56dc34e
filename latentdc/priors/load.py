"""A prior by its settings, one loader for each kind; and how large and slow it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import nn

from latentdc import arguments, ranks
from latentdc.errors import InputError, first_line, nearest
from latentdc.estimates import parameters
from latentdc.modes import in_plain_modes
from latentdc.preprocessing import Normalization, Preprocessing, Whitening
from latentdc.priors.base import LoadRequest, PrecisionName, Prior
from latentdc.priors.files import WeightsMissing
from latentdc.recipe import PriorSettings
from latentdc.recipe.fields import show
from latentdc.recipe.own import call, failed, is_own, resolve

Loader = Callable[[PriorSettings, LoadRequest], Prior]
LOADERS = {  # by `prior.kind`, as text: importing diffusers takes seconds
    "pixel": "latentdc.priors.pixel:load_pixel_prior",
    "vector": "latentdc.priors.pixel:load_vector_prior",
    "autoencoder": "latentdc.priors.load_latent:load_autoencoder_prior",
    "diffusion": "latentdc.priors.load_latent:load_diffusion_prior",
}
LARGE = 100e6  # parameters from which on float32 is warned about


@in_plain_modes
def load_prior(
    settings: PriorSettings,
    *,
    resolution: int,
    class_names: Sequence[str] | None = None,
    normalization: Preprocessing | None = None,
    seed: int = 0,
    precision: PrecisionName = "no",
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

    Examples:
        >>> settings = latentdc.PriorSettings(weights="digits", steps=2)
        >>> prior = latentdc.load_prior(settings, resolution=16)
        >>> prior.latent_shape
        (4, 8, 8)
    """
    asked = LoadRequest(resolution, class_names, normalization, seed, precision, device)
    request = _checked(settings, asked)
    own = is_own(settings.kind)
    load: Loader = _own if own else resolve(LOADERS[settings.kind], "prior.kind")
    return load(settings, request)


def _checked(settings: PriorSettings, request: LoadRequest) -> LoadRequest:
    """What a prior is asked for, in Python's own types where it is of images.

    Nonsense is refused, but for what one's own code takes.
    """
    arguments.require_a(
        PriorSettings, settings, "settings", 'such as PriorSettings(weights="digits")'
    )
    _check_device(request.device)
    known = isinstance(request.precision, str) and request.precision in get_args(PrecisionName)
    if not known:
        given = show(request.precision)
        raise InputError(f"precision is one of {get_args(PrecisionName)}, got {given}.")
    if is_own(settings.kind) or settings.kind == "vector":
        return request
    resolution = arguments.require_whole(request.resolution, "resolution")
    seed = arguments.require_seed(request.seed)
    names = request.class_names
    if names is not None:
        names = arguments.class_names_of(names, "load_prior")
        for name in settings.names:
            if name not in names:
                raise InputError(
                    f"prior.names: the data set has no class {name!r}{nearest(name, names)}; its "
                    f"classes are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}."
                )
    if not isinstance(request.normalization, Normalization | Whitening | None):
        raise InputError(
            f"normalization is a Normalization or a Whitening, got {show(request.normalization)}; "
            "it is what networks see of images."
        )
    return replace(request, resolution=resolution, class_names=names, seed=seed)


def _own(settings: PriorSettings, request: LoadRequest) -> Prior:
    """A prior of the user's code, after one batch has gone there and back."""
    kind, resolution, device = settings.kind, request.resolution, request.device
    if request.is_outline:
        raise WeightsMissing(f"prior.kind={kind} is known when it is made.")
    offered: dict[str, Any] = {"class_names": request.class_names, "seed": request.seed}
    offered |= {"normalization": request.normalization, "settings": settings}
    offered |= {"resolution": resolution, "device": device}
    found = resolve(kind, "prior.kind")
    is_prior = hasattr(found, "decode") and not isinstance(found, type)
    prior: Prior = found if is_prior else call(found, "prior.kind", kind, **offered)
    label = f"prior.kind={kind.partition('#')[0]}"
    parts = "resolution has_noise class_names identity latent_shape encode condition decode"
    arguments.require_able(parts, prior, label, "something that has all of latentdc.Prior")
    source = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, resolution, resolution, generator=source).mul(2).sub(1).to(device)
    try:
        z = prior.encode(images).detach().requires_grad_()
        c = prior.condition(torch.zeros(2, dtype=torch.int64, device=device))
        noise = torch.randn(z.shape, generator=source).to(z) if prior.has_noise else None
        with torch.enable_grad():
            decoded = prior.decode(z, c, noise)
            (gradient,) = torch.autograd.grad(decoded.sum(), [z])
    except Exception as error:
        raise failed(label, "fails on two random images", error) from error
    for what, tensor, shape in (
        ("encode gives", z, (2, *prior.latent_shape)),
        ("decode gives", decoded, tuple(images.shape)),
        ("decode has a gradient", gradient, (2, *prior.latent_shape)),
    ):
        if tensor.shape != shape or not bool(tensor.isfinite().all()):
            got = tuple(tensor.shape) if tensor.shape != shape else "values that are not finite"
            raise InputError(
                f"{label}: {what} {got} of 2 images of {resolution} px, and finite values of "
                f"{shape} are meant."
            )
    if c is not None and not (c.ndim >= 2 and len(c) == 2 and bool(c.isfinite().all())):
        raise InputError(
            f"{label}: condition gives {tuple(c.shape)} of 2 labels, and finite values of "
            "(2, D), (2, T, D) or more axes, or None, are meant."
        )
    return prior


def _check_device(device: torch.device | str) -> None:
    try:
        torch.empty(0, device=device)
    except Exception as error:  # of many kinds, with pages of text
        told = f"device={show(device)} cannot be used here: {first_line(error)}"
        raise InputError(told) from error


def prior_networks(prior: Prior) -> dict[str, nn.Module]:
    """The networks of a prior: its `autoencoder`, and those of its denoiser and its conditions."""
    space, denoiser = getattr(prior, "autoencoder", None), getattr(prior, "denoiser", None)
    parts = {**vars(denoiser or object), "autoencoder": getattr(space, "autoencoder", space)}
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def prior_parameters(prior: Prior) -> int:
    """Numbers in the networks of a prior."""
    return sum(map(parameters, prior_networks(prior).values()))


def warn_if_slow(prior: Prior, device: torch.device, precision: str) -> None:
    """Say that a large prior starts in float32 on a GPU, which takes several times the hours.

    The precision is as `latentdc.modes.precision_of` names it.
    """
    count = prior_parameters(prior)
    if device.type == "cuda" and precision == "no" and count > LARGE:
        ranks.warn(
            f"this prior of {count / 1e6:,.0f} M parameters computes in float32, which may take "
            "some 8 times the hours of bf16 (by their data sheets an A100 and an H100 multiply "
            "matrices 15 times as fast in bf16 and 7 times in tf32); launch with --mixed_precision "
            "bf16, or write precision: tf32."
        )
