"""A CompVis checkpoint as a folder in the layout of diffusers.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752. Networks are filled with the checkpoint's tensors: none missing,
none left over, shapes as the YAML says.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from latentdc.errors import InputError
from latentdc.estimates import parameters
from latentdc.io import file_hash, write_json, write_text, writing
from latentdc.priors.card import front_matter
from latentdc.priors.convert import networks
from latentdc.priors.convert.checkpoint import read_checkpoint
from latentdc.priors.convert.shape import LatentDiffusion
from latentdc.priors.denoisers import ClassEmbedding

_AVERAGED = "model_ema."
_LEFT_OUT = {  # beginnings of keys that are no weights of the model, and what they are
    f"{networks.FIRST_STAGE}loss.": "the first stage's training loss",
    f"{networks.FIRST_STAGE}{_AVERAGED}": "averaged weights of the first stage",
    _AVERAGED: "averaged weights of the UNet",
}
_BUFFERS = {  # of the diffusion process, which the YAML describes
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
    *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("lvlb_weights", "logvar", "cond_ids", "scale_factor"),
}


class Part(NamedTuple):
    """A network of unfilled tensors, with a source for each of them."""

    network: nn.Module
    sources: Mapping[str, networks.Source]


def convert(
    checkpoint: Path,
    config: Path,
    out: Path,
    *,
    model: LatentDiffusion,
    class_names: tuple[str, ...] | None,
    command: str,
    ema: bool = False,
) -> dict[str, str]:
    """Write the prior of a checkpoint to the new folder `out`; gives the rows of its card's table.

    `model` was read from `config`; an unconditional one has no `class_names`. With `ema` the
    averaged weights of the UNet are taken instead of the last ones.

    Raises:
        InputError: the checkpoint cannot be read or does not fit the YAML.
    """
    found = read_checkpoint(checkpoint)
    _refuse_other_kind(found.weights)
    weights = _averaged(found.weights) if ema else found.weights
    scheduler = networks.build_scheduler(model.process)
    _check_schedule(weights, scheduler)
    scale = _scale(model, weights)
    parts = build_parts(model, scale, class_names)
    _fill(parts.values(), weights)
    classes = "none (unconditional)"
    if class_names is not None:
        classes = f"{len(class_names):,}, from `{class_names[0]}` to `{class_names[-1]}`"
    sizes = (f"{name} {parameters(part.network):,}" for name, part in parts.items())
    rows = {
        "checkpoint": f"`{checkpoint.name}`, SHA-256 `{file_hash(checkpoint)}`",
        "shape": f"`{config.name}`, SHA-256 `{file_hash(config)}`",
        "command": f"`{command}`",
        "parameters": ", ".join(sizes),
        "weights of the UNet": "averaged (EMA)" if ema else "last of the training",
        "classes": classes,
        "resolution": f"{model.first_stage.coder.resolution} px",
        "scaling factor": str(scale),
        "left out": _left_out(weights, found.beside),
    }
    with writing(out) as folder:
        folder.mkdir()
        built: dict[str, Any] = {name: part.network for name, part in parts.items()}
        for name, component in {**built, "scheduler": scheduler}.items():
            component.save_pretrained(folder / name)
        write_json(folder / "model_index.json", _index(built))
        write_text(folder / "README.md", _card(out.name, rows))
    return rows


def build_parts(
    model: LatentDiffusion, scaling_factor: float, class_names: tuple[str, ...] | None
) -> dict[str, Part]:
    """The networks without weights, by the name of their folder, and where their weights stand.

    Raises:
        InputError: diffusers cannot build networks of this shape.
    """
    try:
        with torch.device("meta"):
            unet = networks.build_unet(model.unet)
            first_stage = networks.build_first_stage(model.first_stage, scaling_factor)
    except ValueError as error:
        raise InputError(f"networks of the YAML's shape cannot be built: {error}") from error
    coder = model.first_stage.coder
    parts = {
        "vae" if model.first_stage.n_embed is None else "vqvae": Part(
            first_stage, networks.first_stage_sources(first_stage.state_dict(), coder)
        ),
        "unet": Part(unet, networks.unet_sources(unet.state_dict(), model.unet)),
    }
    if model.classes is not None and class_names is not None:
        with torch.device("meta"):
            embedding = ClassEmbedding(list(class_names), model.classes.embed_dim)
        key = "embedding.weight"
        parts["class_embedding"] = Part(embedding, {key: networks.Source(networks.CLASSES + key)})
    return parts


def _scale(model: LatentDiffusion, weights: Mapping[str, Tensor]) -> float:
    """The factor between the first stage's latents and the UNet's."""
    if not model.process.scale_by_std:
        return model.process.scale_factor
    if "scale_factor" not in weights:
        raise InputError("the YAML says scale_by_std, but the checkpoint has no scale_factor.")
    return float(weights["scale_factor"])


def _check_schedule(weights: Mapping[str, Tensor], scheduler: DDIMScheduler) -> None:
    """Compare the YAML's noise schedule with the one that the checkpoint was trained with."""
    stored = weights.get("alphas_cumprod")
    if stored is None:
        return
    ours = scheduler.alphas_cumprod
    if stored.shape != ours.shape or not torch.allclose(stored.float(), ours, rtol=1e-3, atol=1e-6):
        raise InputError(
            "the checkpoint and the YAML are not of one model. Its alphas_cumprod "
            f"({len(stored)}, ending at {float(stored[-1]):.3g}) is not what timesteps, "
            f"linear_start and linear_end say ({len(ours)}, ending at {float(ours[-1]):.3g})."
        )


def _left_out(weights: Mapping[str, Tensor], beside: tuple[str, ...]) -> str:
    """What of the checkpoint the prior has no use for."""
    known = Counter(what for key in weights if (what := _why_no_weight(key)))
    parts = [f"{what} ({number} tensors)" for what, number in known.items()]
    parts += [f"of the trainer: {', '.join(beside)}"] if beside else []
    return "; ".join(parts) or "nothing"


def _index(networks: Mapping[str, Any]) -> dict[str, Any]:
    """model_index.json; an unconditional VQ model is an LDMPipeline of diffusers."""
    pipeline = "LDMPipeline" if set(networks) == {"unet", "vqvae"} else "DiffusionPipeline"
    kinds = {name: type(network).__name__ for name, network in networks.items()}
    kinds = {**kinds, "scheduler": "DDIMScheduler"}
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": version("diffusers")}
    shown = {part: kind for part, kind in kinds.items() if kind != "ClassEmbedding"}
    return index | {part: ["diffusers", kind] for part, kind in shown.items()}


def _fill(parts: Iterable[Part], weights: Mapping[str, Tensor]) -> None:
    """Give every network its tensors; names each that is missing, unexpected or misshapen."""
    used, missing, misshapen = set(), set(), {}
    filled: list[tuple[nn.Module, dict[str, Tensor]]] = []
    for network, sources in parts:
        taken = {}
        for target, unfilled in network.state_dict().items():
            source, shape = sources[target], unfilled.shape
            used.add(source.key)
            if source.key not in weights:
                missing.add(source.key)
                continue
            tensor, thirds = weights[source.key], 1 if source.third is None else 3
            expected = (shape[0] * thirds, *shape[1:])
            if _pointwise(tensor.shape) != _pointwise(expected):
                came = f"is {list(tensor.shape)} where the YAML says {list(expected)}"
                misshapen[source.key] = f"{source.key} {came}"
                continue
            if source.third is not None:  # each head's q, k and v follow one another
                heads = tensor.reshape(source.heads, 3, shape[0] // source.heads, *shape[1:])
                tensor = heads[:, source.third]
            taken[target] = tensor.reshape(shape).clone()
        filled.append((network, taken))
    wrong = {
        "missing": sorted(missing),
        "unexpected": sorted(k for k in weights if k not in used and _why_no_weight(k) is None),
        "misshapen": list(misshapen.values()),
    }
    if any(wrong.values()):
        lists = "; ".join(f"{len(v)} {k}: {', '.join(v)}" for k, v in wrong.items() if v)
        raise InputError(f"the checkpoint and the YAML are not of one model. {lists}.")
    for network, taken in filled:
        network.load_state_dict(taken, assign=True)


def _pointwise(shape: Sequence[int]) -> tuple[int, ...]:
    """A convolution over one point is a linear map: its weight without the trailing ones."""
    return (*shape[:2], *(size for size in shape[2:] if size != 1))


def _why_no_weight(key: str) -> str | None:
    """What a key is, if it is knowingly no part of a converted model."""
    if key in _BUFFERS:
        return "buffers of the diffusion process"
    return next((what for start, what in _LEFT_OUT.items() if key.startswith(start)), None)


def _averaged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the UNet's averages, all of them, in place of its last ones."""
    unet = [key for key in weights if key.startswith(networks.UNET)]
    places = {key: _AVERAGED + key.removeprefix("model.").replace(".", "") for key in unet}
    without = [key for key, place in places.items() if place not in weights]
    if without:
        raise InputError(
            f"--ema: the checkpoint has no averages ({_AVERAGED}...) of {len(without)} of "
            f"{len(places)} weights of the UNet, such as {without[0]}; leave --ema away."
        )
    others = {key: tensor for key, tensor in weights.items() if not key.startswith(_AVERAGED)}
    return others | {key: weights[place] for key, place in places.items()}


def _refuse_other_kind(weights: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint without a single key of a UNet or of a first stage."""
    for start, what in ((networks.UNET, "UNet"), (networks.FIRST_STAGE, "first stage")):
        if not any(key.startswith(start) for key in weights):
            raise InputError(
                f"the checkpoint is no latent diffusion model: it has no {what} ({start}...), but "
                f"{len(weights)} tensors such as {', '.join(list(weights)[:3])}."
            )


def _card(name: str, rows: Mapping[str, str]) -> str:
    """README.md with YAML front matter; `name` is the folder's."""
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""{front_matter()}
# {name}: a latent diffusion prior, converted from CompVis' layout

The same weights as the checkpoint's under the names of diffusers' components. Their licence is the
checkpoint's.

| | |
|---|---|
{table}

Load it with `latentdc.load_prior(latentdc.PriorSettings(weights="{name}"\
{", guidance=1" if rows["classes"].startswith("none") else ""}), \
resolution={rows["resolution"].removesuffix(" px")})`.
"""
