"""Reading the YAML beside a CompVis checkpoint; imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from latentdc import config
from latentdc.errors import InputError
from latentdc.priors.compvis.model import Classes, LatentDiffusion, Process
from latentdc.priors.compvis.shape import CoderShape, FirstStage, UNetShape
from latentdc.recipe.fields import build

T = TypeVar("T")
UNCONDITIONAL = "__is_unconditional__"
CODERS = ("tanh_out", "give_pre_end", "use_linear_attn")  # of ddconfig, all of them false
TRAINING = ("ckpt_path", "lossconfig", "monitor", "ignore_keys", "image_key", "colorize_nlabels")


def read_yaml(path: Path) -> LatentDiffusion:
    """The shape of a latent diffusion model, from a YAML of CompVis' kind such as cin256-v2.yaml.

    Raises:
        InputError: unreadable, of another kind of model, or with a part that cannot be converted.
    """
    loaded = config.natural(config.read(path))
    try:
        return _model(loaded)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def _model(loaded: dict[str, Any]) -> LatentDiffusion:
    params = _at(loaded, "model", "params")
    known = {key: params[key] for key in Process.__dataclass_fields__ if key in params}
    return LatentDiffusion(
        unet=_unet(_at(params, "unet_config")),
        first_stage=_first_stage(_at(params, "first_stage_config")),
        classes=_classes(params.get("cond_stage_config", UNCONDITIONAL)),
        process=_typed(Process, known, "model.params"),
    )


def _unet(config: dict[str, Any]) -> UNetShape:
    _kind(config, "unet_config", "UNetModel")
    return _typed(UNetShape, _at(config, "params"), "unet_config.params")


def _first_stage(config: dict[str, Any]) -> FirstStage:
    kind = _kind(config, "first_stage_config", "VQModelInterface", "VQModel", "AutoencoderKL")
    params = _at(config, "params")
    place = "first_stage_config.params"
    coder = {k: v for k, v in _at(params, "ddconfig").items() if k not in CODERS or v}
    needed = ("embed_dim",) if kind == "AutoencoderKL" else ("embed_dim", "n_embed")
    unknown = set(params) - {*needed, "ddconfig", *TRAINING}
    if unknown or any(not isinstance(params.get(key), int) for key in needed):
        raise InputError(
            f"{place} of {kind} has the whole numbers {' and '.join(needed)}, a ddconfig, and "
            f"perhaps {', '.join(TRAINING)}; got the keys {', '.join(params)}."
        )
    return FirstStage(
        embed_dim=params["embed_dim"],
        n_embed=params["n_embed"] if "n_embed" in needed else None,
        coder=_typed(CoderShape, coder, f"{place}.ddconfig"),
    )


def _classes(config: Any) -> Classes | None:
    if config == UNCONDITIONAL:
        return None
    if not isinstance(config, dict):
        raise InputError(f"cond_stage_config is {config!r}; known are {UNCONDITIONAL} and classes.")
    _kind(config, "cond_stage_config", "ClassEmbedder")
    return _typed(Classes, _at(config, "params"), "cond_stage_config.params")


def _kind(config: dict[str, Any], place: str, *known: str) -> str:
    """The last part of a target's dotted name."""
    name = str(config.get("target")).rpartition(".")[2]
    if name not in known:
        raise InputError(
            f"{place}.target is {config.get('target')}; {' or '.join(known)} can be converted. "
            "Text-conditional models are on the Hub in diffusers layout already."
        )
    return name


def _at(node: Any, *path: str) -> dict[str, Any]:
    """The mapping at a path."""
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, dict):
        raise InputError(
            f"there is no mapping {'.'.join(path)}; a latent diffusion model's YAML has "
            "model.params with unet_config, first_stage_config and cond_stage_config."
        )
    return node


def _typed(schema: type[T], given: dict[str, Any], place: str) -> T:
    """An instance of a dataclass, or what is wrong with a key."""
    try:
        return build(schema, given)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
