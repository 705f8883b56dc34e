"""Which resolutions a prior can have, and which it was made for."""

from collections.abc import Mapping
from typing import Any

from latentdc.errors import InputError
from latentdc.priors.autoencoder import Autoencoder
from latentdc.ranks import warn


def downsampling(autoencoder: Autoencoder) -> int:
    """Pixels per position of a latent, along one side."""
    widths = autoencoder.config.get("encoder_block_out_channels")
    return int(2 ** (len(widths or autoencoder.config["block_out_channels"]) - 1))


def require_multiple(weights: str, resolution: int, step: int) -> None:
    """Refuse a resolution that the networks' halvings or patches do not divide.

    Args:
        weights: the prior's name, to tell.
        resolution: of the data set.
        step: that it has to be a multiple of.

    Raises:
        InputError: it is none.
    """
    if resolution % step:
        raise InputError(
            f"the prior {weights} works in steps of {step} pixels, got "
            f"data.resolution={resolution}; choose a multiple of {step}."
        )


def check_denoiser(
    weights: str, denoiser: Mapping[str, Any], channels: int, size: int, factor: int
) -> None:
    """Refuse latents that a denoiser cannot take; warn of a size that it was not made for.

    Args:
        weights: the prior's name, to tell.
        denoiser: its config.
        channels: of a latent.
        size: of a latent, along one side.
        factor: pixels per position of a latent.

    Raises:
        InputError: another number of channels, or a size that it cannot halve or cut into patches.
    """
    wanted, made = denoiser.get("in_channels"), denoiser.get("out_channels")
    if wanted != channels == made:
        raise InputError(
            f"the denoiser of {weights} takes {wanted} channels and predicts {made}: it wants "
            f"latents of {channels} channels and something beside them (a mask, an image), as for "
            "inpainting; use the model that it was made from."
        )
    if made not in (None, wanted, 2 * channels):  # twice as many: a learned sigma beside the noise
        raise InputError(
            f"the denoiser of {weights} predicts {made} channels of latents with {wanted}; known "
            "are as many, and twice as many where it learned a sigma."
        )
    if wanted != channels:
        raise InputError(
            f"the denoiser of {weights} takes latents of {wanted} channels, and the autoencoder "
            f"makes {channels}; take an autoencoder of the same family."
        )
    require_multiple(weights, factor * size, factor * _step(denoiser))
    own = denoiser.get("sample_size")
    sides = [one for one in (own if isinstance(own, list) else [own]) if isinstance(one, int)]
    if sides and max(sides) != size:
        warn(
            f"the prior {weights} was made for images of {factor * max(sides)} pixels and runs at "
            f"{factor * size}; look at its images before trusting it."
        )


def _step(denoiser: Mapping[str, Any]) -> int:
    """Positions of a latent that its size has to be a multiple of."""
    widths = denoiser.get("block_out_channels")
    return int(2 ** (len(widths) - 1)) if widths else int(denoiser.get("patch_size") or 1)
