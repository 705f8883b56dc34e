"""A prior of one's own: an object or what makes one, tried on two random images."""

import torch

from latentdc import arguments
from latentdc.errors import InputError
from latentdc.priors.base import LoadRequest, Prior
from latentdc.priors.files import WeightsMissing
from latentdc.recipe import PriorSettings
from latentdc.recipe.own import call, failed, resolve


def own_prior(settings: PriorSettings, request: LoadRequest) -> Prior:
    """A prior of the user's code, after one batch has gone there and back."""
    kind, resolution, device = settings.kind, request.resolution, request.device
    if request.is_outline:
        raise WeightsMissing(f"prior.kind={kind} is known when it is made.")
    offered = {
        "class_names": request.class_names,
        "normalization": request.normalization,
        "seed": request.seed,
        "settings": settings,
        "resolution": resolution,
        "device": device,
    }
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
