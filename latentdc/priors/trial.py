"""One small call of each network, so that what cannot be computed is told before anything is made.

Configs of diffusers have more keys than anyone can list, and weights can be spoiled.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.components import one_line
from latentdc.priors.diffusion import DiffusionPrior

SIDE = 2  # positions of a latent along one side


@torch.no_grad()
def try_autoencoder(weights: str, space: AutoencoderPrior, factor: int) -> None:
    """Encode and decode a small grey image.

    Args:
        weights: the prior's name, to tell.
        space: of the autoencoder.
        factor: pixels per position of a latent.

    Raises:
        InputError: it fails, makes images of another size, or numbers that are not finite.
    """
    what, side = f"the autoencoder of {weights}", SIDE * factor
    with _told(what):
        z = space.encode(torch.zeros(1, 3, side, side, device=space.device))
        images = space.draw(torch.zeros_like(z))
    if images.shape != (1, 3, side, side):
        raise InputError(
            f"{what} takes images of {side} pixels and makes {tuple(images.shape[2:])} of them; "
            "take one whose encoder and decoder have as many levels."
        )
    _require_finite(what, z, images)


@torch.no_grad()
def try_denoiser(weights: str, prior: DiffusionPrior) -> None:
    """Predict once, at the noisiest timestep.

    Args:
        weights: the prior's name, to tell.
        prior: whose denoiser is called.

    Raises:
        InputError: it fails, or predicts numbers that are not finite.
    """
    what = f"the denoiser of {weights}"
    with _told(what):
        x = torch.zeros(1, *prior.latent_shape, device=prior.device)
        c = prior.condition(torch.zeros(1, dtype=torch.int64, device=prior.device))
        made = prior.predict(x, prior.schedule.timesteps[0], prior.context(c))
    _require_finite(what, made)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of many kinds, as there are configs
        raise InputError(f"{what} does not run as its config says: {one_line(error)}") from error


def _require_finite(what: str, *made: Tensor) -> None:
    if not all(one.isfinite().all() for one in made):
        raise InputError(
            f"{what} makes numbers that are not finite of zeros: its weights are damaged; fetch "
            "them again."
        )
