"""What of a prior's configs and weights is refused, before hours are spent on it.

Configs of diffusers have more keys than anyone can list, and weights can be spoiled: after what is
known to go wrong, each network is tried by one small call.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Autoencoder
from latentdc.priors.classes import unet_classes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.parts import told
from latentdc.ranks import warn

Config = Mapping[str, Any]
SIDE = 2  # positions of the latent that networks are tried with, along one side

FURTHER = (  # keys of a UNet's config that ask for more than latents, timestep and tokens
    *("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim"),
    *("encoder_hid_dim_type", "time_cond_proj_dim", "dual_cross_attention", "attention_type"),
    "class_embeddings_concat",
)
FED = {"attention_type": "default", "addition_embed_type": "text_time"}  # the last to SDXL alone


def refuse_unfed(folder: Path, config: Config) -> None:
    """Refuse a denoiser of another class, or one with inputs that nobody here would feed."""
    name = config.get("_class_name")
    if name == "UNet2DModel":
        if (kind := config.get("class_embed_type")) is not None:
            raise InputError(
                f"the UNet of {folder} has class_embed_type={kind}: it wants an embedding that it "
                "does not hold; a class-conditional UNet2DModel has num_class_embeds alone."
            )
        if config.get("time_embedding_type") == "fourier":
            raise InputError(
                f"the UNet of {folder} has time_embedding_type=fourier: it divides its input by "
                "the scale of the noise, of a process whose signal does not fade; use a prior "
                "that was trained on timesteps, with time_embedding_type=positional."
            )
    elif name == "UNet2DConditionModel":
        _refuse_further(folder, config)
    elif name in ("DiTTransformer2DModel", "Transformer2DModel"):
        plain = config.get("norm_type") == "ada_norm_zero" and config.get("num_embeds_ada_norm")
        if not plain or config.get("cross_attention_dim") is not None:
            raise InputError(
                f"the {name} of {folder} is no DiT, which takes class labels alone (norm_type is "
                "ada_norm_zero, without cross_attention_dim); use a prior such as "
                "facebook/DiT-XL-2-256."
            )
    else:
        raise InputError(
            f"the denoiser of {folder} is a {name}; known are a UNet2DConditionModel with a "
            "class_embedding or a text_encoder, a DiTTransformer2DModel, and a UNet2DModel."
        )


def _refuse_further(folder: Path, config: Config) -> None:
    text = (folder / "text_encoder").is_dir()
    for key in FURTHER:
        value = config.get(key)
        fed = value == FED.get(key) and (text or key != "addition_embed_type")
        if value is not None and value is not False and not fed:  # 0 rows are some
            raise InputError(
                f"the UNet of {folder} has {key}={value}: it wants more than a "
                f"{'text' if text else 'class token'}; use a model such as Stable Diffusion 1.5, "
                "2.1 or SDXL, or one of class tokens alone."
            )


def refuse_guidance(folder: Path, config: Config, guidance: float) -> None:
    """Refuse to guide without classes, or without a condition for none of them."""
    if guidance == 1 or config.get("_class_name") != "UNet2DModel":
        return
    rows = config.get("num_class_embeds")
    if rows is None:
        what = f"guidance on an unconditional prior: {folder} has no classes to guide by"
    elif len(unet_classes(folder, rows)) == rows:
        what = f"guidance on a prior without a null class: all {rows} rows of {folder} are classes"
    else:
        return
    raise InputError(f"{what}, got prior.guidance={guidance:g}; set prior.guidance=1.")


def downsampling(autoencoder: Autoencoder) -> int:
    """Pixels per position of a latent, along one side."""
    widths = autoencoder.config.get("encoder_block_out_channels")
    return int(2 ** (len(widths or autoencoder.config["block_out_channels"]) - 1))


def require_multiple(weights: str, resolution: int, step: int) -> None:
    """Refuse a resolution that the networks' halvings or patches (`step` pixels) do not divide."""
    if resolution % step:
        raise InputError(
            f"the prior {weights} works in steps of {step} pixels, got "
            f"data.resolution={resolution}; choose a multiple of {step}."
        )


def check_denoiser(weights: str, denoiser: Config, channels: int, size: int, factor: int) -> None:
    """Refuse latents that a denoiser cannot take; warn of a size that it was not made for.

    Args:
        weights: the prior's name, to tell.
        denoiser: its config.
        channels: of a latent.
        size: of a latent, along one side.
        factor: pixels per position of a latent.
    """
    takes = denoiser.get("in_channels")
    makes = denoiser.get("out_channels") or takes
    if takes != channels or makes not in (takes, 2 * takes):  # twice as many: a learned sigma
        raise InputError(
            f"the denoiser of {weights} takes {takes} channels and predicts {makes}, of latents of "
            f"{channels}; take an autoencoder of the same family, and no denoiser that wants a "
            "mask or an image beside the latents, as for inpainting."
        )
    widths = denoiser.get("block_out_channels")
    step = 2 ** (len(widths) - 1) if widths else denoiser.get("patch_size") or 1
    require_multiple(weights, factor * size, factor * step)
    own = denoiser.get("sample_size")
    side = max(own) if isinstance(own, list) else own
    if side not in (None, size):
        warn(
            f"the prior {weights} was made for images of {factor * side} pixels and runs at "
            f"{factor * size}; look at its images before trusting it."
        )


@torch.no_grad()
def try_autoencoder(weights: str, space: AutoencoderPrior, factor: int) -> None:
    """Encode and decode a small grey image; `factor` is of pixels per position of a latent.

    Raises:
        InputError: it fails, makes images of another size, or numbers that are not finite.
    """
    what, side = f"the autoencoder of {weights}", SIDE * factor
    with told(f"{what} does not run as its config says"):
        z = space.encode(torch.zeros(1, 3, side, side, device=space.device))
        images = space.decode_chunk(torch.zeros_like(z))
    if images.shape != (1, 3, side, side):
        raise InputError(
            f"{what} takes images of {side} pixels and makes {tuple(images.shape[2:])} of them; "
            "take one whose encoder and decoder have as many levels."
        )
    _require_finite(what, z, images)


@torch.no_grad()
def try_denoiser(weights: str, prior: DiffusionPrior) -> None:
    """Predict once, at the noisiest timestep.

    Raises:
        InputError: it fails, or predicts numbers that are not finite.
    """
    what = f"the denoiser of {weights}"
    with told(f"{what} does not run as its config says"):
        x = torch.zeros(1, *prior.latent_shape, device=prior.device)
        c = prior.condition(torch.zeros(1, dtype=torch.int64, device=prior.device))
        prediction = prior.predict(x, prior.schedule.timesteps[0], prior.context(c))
    _require_finite(what, prediction.guided)


def _require_finite(what: str, *results: Tensor) -> None:
    if not all(result.isfinite().all() for result in results):
        raise InputError(
            f"{what} makes numbers that are not finite of zeros: its weights are damaged; fetch "
            "them again."
        )
