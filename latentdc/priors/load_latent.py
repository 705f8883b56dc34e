"""Autoencoders and latent diffusion models by name, folder or Hub id: loaded and put together.

Configs of diffusers have more keys than anyone can list, and weights can be spoiled: what is known
to go wrong is refused, and then each network is tried by one small call, before hours are spent.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentdc.errors import InputError
from latentdc.priors import files
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Autoencoder, PrecisionName, keep_in_bf16
from latentdc.priors.classes import unet_classes
from latentdc.priors.components import as_input_error, load_autoencoder, load_scheduler
from latentdc.priors.denoisers import load_denoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import fixed_plan
from latentdc.priors.schedule import make_schedule
from latentdc.ranks import warn
from latentdc.recipe import PriorSettings

Config = Mapping[str, Any]
_SIDE = 2  # positions of the latent that networks are tried with, along one side

_EXTRA_INPUTS = (  # keys of a UNet's config that ask for more than latents, timestep and tokens
    *("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim"),
    *("encoder_hid_dim_type", "time_cond_proj_dim", "dual_cross_attention", "attention_type"),
    "class_embeddings_concat",
)
# Those of their values that are fed, the last to SDXL alone.
_KNOWN_INPUTS = {"attention_type": "default", "addition_embed_type": "text_time"}


def load_latent_prior(
    settings: PriorSettings,
    resolution: int,
    *,
    prompts: Mapping[str, str] | None,
    seed: int,
    precision: PrecisionName,
    device: torch.device | str,
) -> AutoencoderPrior | DiffusionPrior:
    """A prior that has weights, with prompts by class for one of texts; see `load_prior`."""
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
        _refuse_unknown_inputs(folder, config)
        _refuse_guidance(folder, config, settings.guidance)
        scheduler = load_scheduler(folder)
        make_schedule(scheduler, settings.steps, settings.flow)  # refused before weights are read
    own = files.autoencoder_part(space_folder)
    model = load_autoencoder(own, device)
    factor = _downsampling(model)
    _require_multiple(autoencoder, resolution, factor)
    space = AutoencoderPrior(
        model,
        resolution=resolution,
        identity="outline" if outline else _identity(folder, parts, space_folder, own, drawn),
        plan=fixed_plan(settings.memory, settings.chunk),
        precision="float32" if config.get("addition_embed_type") == "text_time" else precision,
    )
    if not outline:
        _try_autoencoder(autoencoder, space, factor)
    tuned = partial(
        tune,
        device=space.device,
        channels_last=settings.channels_last,
        compile=settings.compile and not outline,
    )
    tuned([model.decoder], precision=space.precision)
    if not parts:
        return space
    with as_input_error(f"the denoiser of {weights} does not run as its config says"):
        _check_denoiser(weights, config, space.latent_shape[0], space.latent_shape[1], factor)
    denoiser, class_names = load_denoiser(folder, parts, config, space, seed=drawn, prompts=prompts)
    prior = DiffusionPrior(
        space, denoiser, scheduler, settings, class_names=class_names, precision=precision
    )
    if not outline:
        _try_denoiser(weights, prior)
    tuned([denoiser.network], precision=precision)
    return prior


def _folder(weights: str, revision: str | None = None, *, outline: bool) -> Path:
    shipped = files.CONFIGS / weights.replace("/", "--")
    if outline and shipped.is_dir():
        return shipped
    return files.prior_folder(weights, revision, local_only=outline)


def _identity(folder: Path, parts: Sequence[Path], space: Path, own: Path, seed: int | None) -> str:
    """Hex digits of all files that are read, and of the seed that weights are drawn from.

    `parts` of `folder` are the denoiser's, that one first, none of an autoencoder alone; `own` is
    the autoencoder's folder, in `space`.
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
    precision: PrecisionName,
    channels_last: bool,
    compile: bool,
) -> None:
    """Change how `networks` run, in place; what they compute stays the same but for rounding.

    `precision` is that of the autocast that they will run under.
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


# ---- What of configs and weights is refused ----


def _refuse_unknown_inputs(folder: Path, config: Config) -> None:
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
        _refuse_extra_inputs(folder, config)
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


def _refuse_extra_inputs(folder: Path, config: Config) -> None:
    text = (folder / "text_encoder").is_dir()
    for key in _EXTRA_INPUTS:
        value = config.get(key)
        fed = value == _KNOWN_INPUTS.get(key) and (text or key != "addition_embed_type")
        if value is not None and value is not False and not fed:  # 0 rows are some
            raise InputError(
                f"the UNet of {folder} has {key}={value}: it wants more than a "
                f"{'text' if text else 'class token'}; use a model such as Stable Diffusion 1.5, "
                "2.1 or SDXL, or one of class tokens alone."
            )


def _refuse_guidance(folder: Path, config: Config, guidance: float) -> None:
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


def _downsampling(autoencoder: Autoencoder) -> int:
    """Pixels per position of a latent, along one side."""
    widths = autoencoder.config.get("encoder_block_out_channels")
    return int(2 ** (len(widths or autoencoder.config["block_out_channels"]) - 1))


def _require_multiple(weights: str, resolution: int, step: int) -> None:
    """Refuse a resolution that the networks' halvings or patches (`step` pixels) do not divide."""
    if resolution % step:
        raise InputError(
            f"the prior {weights} works in steps of {step} pixels, got "
            f"data.resolution={resolution}; choose a multiple of {step}."
        )


def _check_denoiser(weights: str, denoiser: Config, channels: int, size: int, factor: int) -> None:
    """Refuse latents that a denoiser cannot take; warn of a size that it was not made for.

    `size` is of a latent along one side, `factor` the pixels per position.
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
    _require_multiple(weights, factor * size, factor * step)
    own = denoiser.get("sample_size")
    side = max(own) if isinstance(own, list) else own
    if side not in (None, size):
        warn(
            f"the prior {weights} was made for images of {factor * side} pixels and runs at "
            f"{factor * size}; look at its images before trusting it."
        )


@torch.no_grad()
def _try_autoencoder(weights: str, space: AutoencoderPrior, factor: int) -> None:
    """Encode and decode a small grey image; `factor` is of pixels per position of a latent."""
    what, side = f"the autoencoder of {weights}", _SIDE * factor
    with as_input_error(f"{what} does not run as its config says"):
        z = space.encode_chunk(torch.zeros(1, 3, side, side, device=space.device))
        images = space.decode_chunk(torch.zeros_like(z))
    if images.shape != (1, 3, side, side):
        raise InputError(
            f"{what} takes images of {side} pixels and makes {tuple(images.shape[2:])} of them; "
            "take one whose encoder and decoder have as many levels."
        )
    _require_finite(what, z, images)


@torch.no_grad()
def _try_denoiser(weights: str, prior: DiffusionPrior) -> None:
    """Predict once, at the noisiest timestep."""
    what = f"the denoiser of {weights}"
    with as_input_error(f"{what} does not run as its config says"):
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
