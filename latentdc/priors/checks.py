"""What of a prior's configs and weights is refused, before hours are spent on it.

Configs of diffusers have more keys than anyone can list, and weights can be spoiled: after what is
known to go wrong, each network is tried by one small call.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Autoencoder
from latentdc.priors.classes import unet_classes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.parts import one_line
from latentdc.ranks import warn
from latentdc.recipe.fields import show

Config = Mapping[str, Any]
SIDE = 2  # positions of the latent that networks are tried with, along one side

# Keys of a UNet's config that ask for inputs beside latents, timestep and tokens; what each means.
FURTHER = {
    "class_embed_type": "an embedding beside the tokens",
    "num_class_embeds": "a class label beside the tokens",
    "addition_embed_type": "more embeddings",
    "encoder_hid_dim": "tokens of another encoder",
    "encoder_hid_dim_type": "tokens of another encoder",
    "time_cond_proj_dim": "an embedded guidance scale, as latent consistency models do",
    "dual_cross_attention": "the tokens of two encoders",
    "attention_type": "places of objects",
    "class_embeddings_concat": "an embedding beside the tokens",
}
WHOLE = ("in_channels", "out_channels", "num_class_embeds", "num_embeds_ada_norm", "patch_size")
USUAL = ("use a model such as Stable Diffusion 1.5, 2.1 or SDXL.", "use one of class tokens alone.")


def refuse_unfed(folder: Path, config: Config) -> None:
    """Refuse a denoiser of another class, or one with inputs that nobody here would feed."""
    _require_numbers(folder, config)
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


def _require_numbers(folder: Path, config: Config) -> None:
    """Refuse sizes of a denoiser that are no whole numbers."""
    sizes = {key: [config.get(key)] for key in WHOLE}
    own, widths = config.get("sample_size"), config.get("block_out_channels", [1])
    sizes["sample_size"] = own if isinstance(own, list) else [own]
    sizes["block_out_channels"] = widths if isinstance(widths, list) else []
    for key, values in sizes.items():
        if not values or any(value is not None and type(value) is not int for value in values):
            raise InputError(
                f"the denoiser of {folder} has {key}={show(config.get(key))} in its config.json, "
                "which is no whole number; fetch it again."
            )


def _refuse_further(folder: Path, config: Config) -> None:
    text = (folder / "text_encoder").is_dir()
    fed = {"attention_type": "default"}
    if text:
        fed["addition_embed_type"] = "text_time"
    for key, meaning in FURTHER.items():
        value = config.get(key)
        if value is not None and value is not False and value != fed.get(key):  # 0 rows are some
            raise InputError(
                f"the UNet of {folder} has {key}={value}: it wants more than a "
                f"{'text' if text else 'class token'}, namely {meaning}; {USUAL[not text]}"
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
    takes, makes = denoiser.get("in_channels"), denoiser.get("out_channels")
    if takes != channels == makes:
        raise InputError(
            f"the denoiser of {weights} takes {takes} channels and predicts {makes}: it wants "
            f"latents of {channels} channels and something beside them (a mask, an image), as for "
            "inpainting; use the model that it was made from."
        )
    if makes not in (None, takes, 2 * channels):  # twice as many: a learned sigma beside the noise
        raise InputError(
            f"the denoiser of {weights} predicts {makes} channels of latents with {takes}; known "
            "are as many, and twice as many where it learned a sigma."
        )
    if takes != channels:
        raise InputError(
            f"the denoiser of {weights} takes latents of {takes} channels, and the autoencoder "
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


def _step(denoiser: Config) -> int:
    """Positions of a latent that its size has to be a multiple of."""
    widths = denoiser.get("block_out_channels")
    return int(2 ** (len(widths) - 1)) if widths else int(denoiser.get("patch_size") or 1)


@torch.no_grad()
def try_autoencoder(weights: str, space: AutoencoderPrior, factor: int) -> None:
    """Encode and decode a small grey image; `factor` is of pixels per position of a latent.

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

    Raises:
        InputError: it fails, or predicts numbers that are not finite.
    """
    what = f"the denoiser of {weights}"
    with _told(what):
        x = torch.zeros(1, *prior.latent_shape, device=prior.device)
        c = prior.condition(torch.zeros(1, dtype=torch.int64, device=prior.device))
        prediction = prior.predict(x, prior.schedule.timesteps[0], prior.context(c))
    _require_finite(what, prediction.guided)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of many kinds, as there are configs
        raise InputError(f"{what} does not run as its config says: {one_line(error)}") from error


def _require_finite(what: str, *results: Tensor) -> None:
    if not all(result.isfinite().all() for result in results):
        raise InputError(
            f"{what} makes numbers that are not finite of zeros: its weights are damaged; fetch "
            "them again."
        )
