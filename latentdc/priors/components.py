"""The parts of a prior, each from the sub-folder that holds its config and weights."""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    HeunDiscreteScheduler,
    VQModel,
)

from latentdc import draws
from latentdc.errors import InputError
from latentdc.priors.autoencoder import Autoencoder
from latentdc.priors.folder import autoencoder_part, exactly, read_config, read_json

AUTOENCODERS = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "VQModel": VQModel,
}
PREDICTIONS = ("epsilon", "v_prediction")
OTHER_BETAS = {  # that diffusers' DDIM does not know, by its schedulers that do
    "sigmoid": DDPMScheduler,
    "laplace": DDPMScheduler,
    "exp": HeunDiscreteScheduler,
}


def load_autoencoder(folder: Path, device: torch.device | str) -> Autoencoder:
    """The autoencoder of a prior's folder, or the folder's own.

    Raises:
        InputError: missing, incomplete or of another class.
    """
    part = autoencoder_part(folder)
    config = read_config(part)
    name = config.get("_class_name")
    if name not in AUTOENCODERS:
        raise InputError(f"{part} is a {name}; an autoencoder is one of {sorted(AUTOENCODERS)}.")
    channels = {config.get(key, 3) for key in ("in_channels", "out_channels")}
    if channels not in ({1}, {3}):
        raise InputError(
            f"the autoencoder {part} is of images with {' and '.join(map(str, sorted(channels)))} "
            "channels; latentdc has images of 3, and grey ones of 1."
        )
    return load_component(AUTOENCODERS[name], part, device)


def load_scheduler(folder: Path) -> DDIMScheduler:
    """The training schedule, sampled deterministically without clipping, as LD3M does.

    Of a config for another sampler (PNDM, Euler, ...) the betas, the kind of prediction and what
    DDIM shares with it count.

    Raises:
        InputError: missing, without betas, or of a network that predicts something else.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        raise InputError(f"the prior {folder} lacks scheduler/scheduler_config.json.")
    given = read_json(path)
    if "beta_start" not in given and given.get("trained_betas") is None:
        raise InputError(
            f"{path} is of a {given.get('_class_name')} and has no betas; LD3M needs a model of "
            "noise prediction, such as Stable Diffusion 1.5 or DiT, and flow matching is none."
        )
    known = inspect.signature(DDIMScheduler.__init__).parameters
    shared = {key: value for key, value in given.items() if key in known}
    try:
        other = OTHER_BETAS.get(given.get("beta_schedule", ""))
        if other is not None and given.get("trained_betas") is None:
            plain = other.from_config(given | {"rescale_betas_zero_snr": False})
            shared["trained_betas"] = plain.betas.tolist()
        scheduler = DDIMScheduler.from_config(shared, clip_sample=False)
        scheduler.set_timesteps(1)  # fails where its numbers are none
        scheduler.alphas_cumprod[int(scheduler.timesteps[0])]
    except Exception as error:  # of many kinds, for values of many kinds
        raise InputError(f"{path} has no schedule: {_one_line(error)}") from error
    prediction = scheduler.config.prediction_type
    if prediction not in PREDICTIONS:
        raise InputError(
            f"the prior {folder} predicts {prediction}, not {' or '.join(PREDICTIONS)}."
        )
    return scheduler


def load_component(
    component: Any, folder: Path, device: torch.device | str, seed: int | None = None
) -> Any:
    """A network of diffusers or transformers in float32 from its folder; on `meta`, its outline.

    With a seed, weights are drawn and none are read.

    Raises:
        InputError: files or weights that are missing or do not fit together.
    """
    try:
        if torch.device(device).type == "meta":
            with torch.device("meta"):
                return component.from_config(component.load_config(folder))
        if seed is not None:
            with draws.global_draws(seed, "denoiser"):
                return component.from_config(component.load_config(folder)).to(device)
        with exactly(folder) as (shown, safe):
            loaded, report = component.from_pretrained(
                shown, torch_dtype=torch.float32, use_safetensors=safe, output_loading_info=True
            )
    except InputError:
        raise
    except Exception as error:  # of many kinds; whatever it is, the files are not fit to load
        raise InputError(f"cannot load the prior's {folder}: {_one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"cannot load the prior's {folder}: its weights lack {len(missing)} tensors "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})."
        )
    return loaded.to(device)


def _one_line(error: Exception) -> str:
    """The beginning of what a library says, which may be a page."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
