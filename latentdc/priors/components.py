"""The parts of a prior, each from the sub-folder that holds its config and weights."""

import math
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    VQModel,
)
from diffusers.models.modeling_utils import ModelMixin
from safetensors import safe_open

from latentdc import draws
from latentdc.errors import InputError, in_short
from latentdc.priors.base import Autoencoder
from latentdc.priors.files import (
    SHOWN_FOLDER,
    chosen_weights,
    find_weights,
    read_config,
    read_json,
)
from latentdc.recipe.fields import show

_AUTOENCODERS = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "VQModel": VQModel,
}
_PREDICTIONS = ("epsilon", "v_prediction")
_SHARED = (  # of a sampler's config: what DDIM's steps follow beside the betas
    *("prediction_type", "timestep_spacing", "steps_offset"),
    *("set_alpha_to_one", "rescale_betas_zero_snr"),
)
_FLOW = "FlowMatchEulerDiscreteScheduler"
_UNKNOWN_FLOWS = {  # keys of a flow's config, and why they are refused
    "use_dynamic_shifting": "its steps depend on the image's size; set it to false, and shift",
    "invert_sigmas": "the direction of time is prior.flow.noise_at here; set it to false",
    "stochastic_sampling": "a flow is walked as an ODE here; set it to false",
}
_MOST_TIMESTEPS = 100_000  # of a schedule; more are a slip, and all of them would be computed


def load_autoencoder(part: Path, device: torch.device | str) -> Autoencoder:
    """The autoencoder in a folder of its own.

    Raises:
        InputError: missing, incomplete or of another class.
    """
    config = read_config(part)
    name = config.get("_class_name")
    if name not in _AUTOENCODERS:
        raise InputError(f"{part} is a {name}; an autoencoder is one of {sorted(_AUTOENCODERS)}.")
    channels = {config.get(key, 3) for key in ("in_channels", "out_channels")}
    if channels not in ({1}, {3}):
        raise InputError(
            f"the autoencoder {part} is of images with {' and '.join(map(str, sorted(channels)))} "
            "channels; latentdc has images of 3, and grey ones of 1."
        )
    return load_component(_AUTOENCODERS[name], part, device)


def load_scheduler(folder: Path) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    """The training schedule, sampled deterministically without clipping, as LD3M does.

    Of a config for another sampler (PNDM, Euler, ...) the betas, the kind of prediction and what
    DDIM shares with it count. A flow has FlowMatchEulerDiscreteScheduler's config, or one of its
    own: `prediction_type: flow`, for equal steps, and if need be `shift`.

    Raises:
        InputError: missing, without betas, or of a network that predicts something else.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        raise InputError(f"the prior {folder} lacks scheduler/scheduler_config.json.")
    given = read_json(path)
    if given.get("_class_name") == _FLOW or given.get("prediction_type") == "flow":
        return _flow_scheduler(path, given)
    _check_count(path, given)
    own = getattr(diffusers, str(given.get("_class_name")), None)
    if not isinstance(own, type) or hasattr(own, "_backends"):  # unknown, or it lacks packages
        own = DDIMScheduler if {"beta_start", "trained_betas"} & {*given} else object
    with as_input_error(f"{path} has no schedule"):
        if not hasattr(own, "from_config") or not hasattr(
            theirs := own.from_config(given | {"rescale_betas_zero_snr": False}), "betas"
        ):
            raise InputError(
                f"{path} is of a {given.get('_class_name')} and has no betas; a prior predicts "
                f"noise, as Stable Diffusion 1.5 and DiT do, or is a flow with a config of {_FLOW}."
            )
        betas = theirs.betas
        _check_betas(path, betas, theirs.config.num_train_timesteps)
        shared = {key: given[key] for key in _SHARED if key in given}
        scheduler = DDIMScheduler(
            **shared,
            num_train_timesteps=len(betas),
            trained_betas=betas.tolist(),
            clip_sample=False,
        )
        scheduler.set_timesteps(1)  # fails where its numbers are none
        scheduler.alphas_cumprod[int(scheduler.timesteps[0])]
    prediction = scheduler.config.prediction_type
    if prediction not in _PREDICTIONS:
        raise InputError(
            f"the prior {folder} predicts {prediction}, not {' or '.join(_PREDICTIONS)}."
        )
    return scheduler


def _flow_scheduler(path: Path, given: dict[str, Any]) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of a flow; `uniform` in its config stands for equal steps."""
    for key, why in _UNKNOWN_FLOWS.items():
        if given.get(key):
            raise InputError(f"{path} has {key}={show(given[key])}: {why}.")
    shift, uniform = given.get("shift", 1.0), given.get("_class_name") != _FLOW
    if type(shift) not in (int, float) or not 0 < shift < math.inf:
        raise InputError(f"{path} has no schedule: shift is a positive number, got {show(shift)}.")
    own = {"shift": shift} if uniform else given | {"shift": shift}
    with as_input_error(f"{path} has no schedule"):
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(own)
        scheduler.set_timesteps(2)
    scheduler.register_to_config(uniform=uniform)
    return scheduler


def _check_count(path: Path, given: dict[str, Any]) -> None:
    """Refuse timesteps that diffusers would take for something else, or compute for minutes."""
    for key in ("num_train_timesteps", "steps_offset"):
        value = given.get(key, 1)
        if type(value) is not int or not 0 <= value <= _MOST_TIMESTEPS:
            allowed = f"a whole number from 0 to {_MOST_TIMESTEPS:,}"
            raise InputError(f"{path} has no schedule: {key} is {allowed}, got {show(value)}.")


def _check_betas(path: Path, betas: torch.Tensor, count: int) -> None:
    """Refuse betas that do not lead from an image to noise."""
    sound = bool((betas >= 0).all() and (betas <= 1).all() and betas.any())
    if betas.shape != (count,) or not sound:
        raise InputError(
            f"{path} has no schedule: betas are {count} numbers, one for each timestep, between 0 "
            f"and 1 and not all 0; here are {tuple(betas.shape)} between {float(betas.min()):.3g} "
            f"and {float(betas.max()):.3g}."
        )


def load_component(
    component: Any, folder: Path, device: torch.device | str, seed: int | None = None
) -> Any:
    """A network of diffusers or transformers in float32 from its folder; on `meta`, its outline.

    With a seed, weights are drawn and none are read.

    Raises:
        InputError: files or weights that are missing or do not fit together.
    """
    with as_input_error(f"cannot load the prior's {folder}", folder):
        if torch.device(device).type == "meta":
            with torch.device("meta"):
                return component.from_config(component.load_config(folder))
        if seed is not None:
            with draws.global_draws(seed, "denoiser"):
                return component.from_config(component.load_config(folder)).to(device)
        with chosen_weights(folder) as (shown, safe):
            loaded, report = component.from_pretrained(
                shown, torch_dtype=torch.float32, use_safetensors=safe, output_loading_info=True
            )
    if missing := report["missing_keys"]:
        raise InputError(f"cannot load the prior's {folder}: its weights lack {_some(missing)}.")
    if isinstance(loaded, ModelMixin) and (unknown := report["unexpected_keys"]):
        raise InputError(
            f"cannot load the prior's {folder}: its weights have {_some(unknown)} that its "
            "config.json has no place for; take the config.json that belongs to them."
        )
    with as_input_error(f"cannot load the prior's {folder}", folder):
        _refuse_quantised(folder)
    return loaded.to(device)


def _refuse_quantised(folder: Path) -> None:
    """Refuse weights of whole or complex numbers, which loaders take for floats of those values."""
    for file in find_weights(folder).files:
        for name in _not_floats(file):
            raise InputError(
                f"cannot load the prior's {folder}: {name} in {file.name} is not of floats, as in "
                "quantised weights; take a form of them that is not quantised."
            )


def _not_floats(file: Path) -> list[str]:
    """Names of a file's tensors of whole or complex numbers, but int64, which counts things."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}
        return [name for name, kind in kinds.items() if not kind.startswith(("F", "BF", "I64"))]
    parts = torch.load(file, map_location="meta", weights_only=True).items()
    tensors = {name: part for name, part in parts if isinstance(part, torch.Tensor)}
    return [
        name
        for name, part in tensors.items()
        if not part.is_floating_point() and part.dtype != torch.int64
    ]


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > 3 else ''})"


@contextmanager
def as_input_error(what: str, folder: object = "its folder") -> Iterator[None]:
    """Say in one line what libraries raise, of many kinds and pages long, of files in `folder`."""
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = re.sub(SHOWN_FOLDER, str(folder), in_short(error, 300))
        raise InputError(f"{what}: {type(error).__name__}: {words}") from error
