"""The parts of a prior, each from the sub-folder that holds its config and weights."""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, VQModel

from latentdc import draws
from latentdc.errors import InputError
from latentdc.priors.autoencoder import Autoencoder
from latentdc.priors.folder import find_part, read_config, read_json, weights_file

AUTOENCODERS = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "VQModel": VQModel,
}
PREDICTIONS = ("epsilon", "v_prediction")


def load_autoencoder(folder: Path, device: torch.device | str) -> Autoencoder:
    """The autoencoder of a prior's folder, or the folder's own.

    Raises:
        InputError: missing, incomplete or of another class.
    """
    alone = (folder / "config.json").is_file()
    part = folder if alone else find_part(folder, "vae", "vqvae")
    name = read_config(part).get("_class_name")
    if name not in AUTOENCODERS:
        raise InputError(f"{part} is a {name}; an autoencoder is one of {sorted(AUTOENCODERS)}.")
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
    scheduler = DDIMScheduler.from_config(shared, clip_sample=False)
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
        file = weights_file(folder)
        loaded, report = component.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            variant="fp16" if file is not None and ".fp16." in file.name else None,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"cannot load the prior's {folder}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"cannot load the prior's {folder}: its weights lack {len(missing)} tensors "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})."
        )
    return loaded.to(device)
