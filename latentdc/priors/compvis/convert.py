"""A CompVis checkpoint as a folder in the layout of diffusers.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752.
"""

import json
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from latentdc.errors import InputError
from latentdc.io import writing
from latentdc.priors.compvis.card import Facts, card
from latentdc.priors.compvis.checkpoint import file_hash, read_checkpoint
from latentdc.priors.compvis.keys import CLASSES, Source, first_stage_sources, unet_sources
from latentdc.priors.compvis.model import LatentDiffusion
from latentdc.priors.compvis.networks import build_first_stage, build_scheduler, build_unet
from latentdc.priors.compvis.strict import Part, averaged, fill, left_out, refuse_other_kind
from latentdc.priors.denoisers import ClassEmbedding


def convert(
    checkpoint: Path,
    config: Path,
    out: Path,
    *,
    model: LatentDiffusion,
    class_names: tuple[str, ...] | None,
    command: str,
    ema: bool = False,
) -> Facts:
    """Write the prior of a checkpoint to the folder `out`, whole or not at all.

    Args:
        checkpoint: torch file; no code in it is run.
        config: the YAML that `model` was read from.
        out: new folder.
        model: shape of the networks.
        class_names: of a class-conditional model; None for an unconditional one.
        command: for the card.
        ema: take the averaged weights of the UNet instead of the last ones.

    Returns:
        What the card says.

    Raises:
        InputError: the checkpoint cannot be read or does not fit the YAML.
    """
    found = read_checkpoint(checkpoint)
    refuse_other_kind(found.weights)
    weights = averaged(found.weights) if ema else found.weights
    scheduler = build_scheduler(model.process)
    _check_schedule(weights, scheduler)
    parts = build_parts(model, _scale(model, weights), class_names)
    fill(parts.values(), weights)
    facts = Facts(
        checkpoint=checkpoint,
        checkpoint_hash=file_hash(checkpoint),
        config=config,
        config_hash=file_hash(config),
        command=command,
        ema=ema,
        classes=class_names,
        resolution=model.first_stage.coder.resolution,
        scaling_factor=_scale(model, weights),
        parameters={name: count(part.network) for name, part in parts.items()},
        left_out=_left_out(weights, found.beside),
    )
    with writing(out) as folder:
        folder.mkdir()
        networks: dict[str, Any] = {name: part.network for name, part in parts.items()}
        for name, component in {**networks, "scheduler": scheduler}.items():
            component.save_pretrained(folder / name)
        (folder / "model_index.json").write_text(_index(networks) + "\n")
        (folder / "README.md").write_text(card(facts, out.name), encoding="utf-8")
    return facts


def build_parts(
    model: LatentDiffusion, scaling_factor: float, class_names: tuple[str, ...] | None
) -> dict[str, Part]:
    """The networks without weights, by the name of their folder, and where their weights stand.

    Raises:
        InputError: diffusers cannot build networks of this shape.
    """
    try:
        with torch.device("meta"):
            unet = build_unet(model.unet)
            first_stage = build_first_stage(model.first_stage, scaling_factor)
    except ValueError as error:
        raise InputError(f"networks of the YAML's shape cannot be built: {error}") from error
    coder = model.first_stage.coder
    parts = {
        "vae" if model.first_stage.n_embed is None else "vqvae": Part(
            first_stage, first_stage_sources(first_stage.state_dict(), coder)
        ),
        "unet": Part(unet, unet_sources(unet.state_dict(), model.unet)),
    }
    if model.classes is not None and class_names is not None:
        with torch.device("meta"):
            embedding = ClassEmbedding(list(class_names), model.classes.embed_dim)
        key = "embedding.weight"
        parts["class_embedding"] = Part(embedding, {key: Source(CLASSES + key)})
    return parts


def count(network: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


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


def _left_out(weights: Mapping[str, Tensor], beside: tuple[str, ...]) -> tuple[str, ...]:
    """What of the checkpoint the prior has no use for, in words."""
    known = Counter(what for key in weights if (what := left_out(key)))
    tensors = tuple(f"{what} ({number} tensors)" for what, number in known.items())
    return tensors + ((f"of the trainer: {', '.join(beside)}",) if beside else ())


def _index(networks: Mapping[str, Any]) -> str:
    """model_index.json; an unconditional VQ model is an LDMPipeline of diffusers."""
    pipeline = "LDMPipeline" if set(networks) == {"unet", "vqvae"} else "DiffusionPipeline"
    kinds = {name: type(network).__name__ for name, network in networks.items()}
    kinds = {**kinds, "scheduler": "DDIMScheduler"}
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": version("diffusers")}
    index |= {part: ["diffusers", kind] for part, kind in kinds.items() if kind != "ClassEmbedding"}
    return json.dumps(index, indent=2)
