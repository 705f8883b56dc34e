"""The diffusers counterparts of CompVis' networks, and where each of their tensors comes from.

CompVis numbers the blocks of a UNet from its input to its output, diffusers groups them by level;
its decoders count levels from the image, diffusers' from the latent. diffusers' own converters of
single files give the same tensors, but drop keys that they do not know and cut kernels that are
too large, without a word.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.base import Autoencoder
from latentdc.priors.convert.shape import CoderShape, FirstStage, Process, UNetShape

UNet = Any  # UNet2DConditionModel or UNet2DModel of diffusers, which has no types

UNET, FIRST_STAGE, CLASSES = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
_IN_BLOCK = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)\.(\w+)")
_OUTSIDE = {  # names of a UNet in diffusers and in CompVis' code
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_JOINT_ATTENTION = {"group_norm": "norm", "to_out.0": "proj_out"} | dict.fromkeys(
    ("to_q", "to_k", "to_v"), "qkv"
)
_FIRST_STAGE_NAMES = {  # pieces of names, replaced in this order
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "samplers.0.conv": "sample.conv",
    "resnets": "block",
    "conv_shortcut": "nin_shortcut",
    "attentions": "attn",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


class Source(NamedTuple):
    """A tensor of the checkpoint."""

    key: str
    third: int | None = None  # which one, where q, k and v are in one tensor
    heads: int = 1  # of such an attention


def build_unet(shape: UNetShape) -> UNet:
    """A UNet2DConditionModel if it has a SpatialTransformer, else a UNet2DModel.

    Raises:
        InputError: a UNet2DModel cannot have these heads.
    """
    common: dict[str, Any] = {
        "sample_size": shape.image_size,
        "in_channels": shape.in_channels,
        "out_channels": shape.out_channels,
        "block_out_channels": shape.widths,
        "layers_per_block": shape.num_res_blocks,
    }
    attention = "CrossAttn" if shape.use_spatial_transformer else "Attn"
    down = tuple(f"{attention if attends else ''}DownBlock2D" for attends in shape.attends)
    up = tuple(f"{attention if attends else ''}UpBlock2D" for attends in shape.attends[::-1])
    common |= {"down_block_types": down, "up_block_types": up}
    if not shape.use_spatial_transformer:
        return UNet2DModel(**common, attention_head_dim=_head_width(shape))
    return UNet2DConditionModel(
        **common,
        cross_attention_dim=shape.context_dim,
        transformer_layers_per_block=shape.transformer_depth,
        # diffusers' name; it means the number of heads here, and their width in UNet2DModel
        attention_head_dim=tuple(shape.heads(width) for width in shape.widths),
    )


def build_first_stage(stage: FirstStage, scaling_factor: float) -> Autoencoder:
    """A VQModel, or an AutoencoderKL; the scaling factor has a default of its own there."""
    coder = stage.coder
    common: dict[str, Any] = {
        "in_channels": coder.in_channels,
        "out_channels": coder.out_ch,
        "block_out_channels": coder.widths,
        "down_block_types": tuple(
            f"{'Attn' if attends else ''}DownEncoderBlock2D" for attends in coder.attends
        ),
        "up_block_types": tuple(
            f"{'Attn' if attends else ''}UpDecoderBlock2D" for attends in coder.attends[::-1]
        ),
        "layers_per_block": coder.num_res_blocks,
        "latent_channels": coder.z_channels,
        "sample_size": coder.resolution,
        "scaling_factor": scaling_factor,
    }
    if stage.n_embed is None:
        return AutoencoderKL(**common)
    return VQModel(**common, num_vq_embeddings=stage.n_embed, vq_embed_dim=stage.embed_dim)


def build_scheduler(process: Process) -> DDIMScheduler:
    """The training schedule; with this offset, timesteps are CompVis' 1, 1 + 1000/S, ..."""
    return DDIMScheduler(
        num_train_timesteps=process.timesteps,
        beta_start=process.linear_start,
        beta_end=process.linear_end,
        beta_schedule="scaled_linear",
        prediction_type="epsilon" if process.parameterization == "eps" else "v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def _head_width(shape: UNetShape) -> int | None:
    """Channels per head of a UNet2DModel, the same everywhere; None for one head as wide as all."""
    widths = {width // shape.heads(width) for width in shape.attending}
    if all(shape.heads(width) == 1 for width in shape.attending):
        return None
    if len(widths) > 1:
        raise InputError(
            f"unet_config.params.num_heads={shape.num_heads} gives heads of {sorted(widths)} "
            "channels; diffusers' UNet2DModel has heads of one width (or one head)."
        )
    return widths.pop()


def unet_sources(state: Mapping[str, Tensor], shape: UNetShape) -> dict[str, Source]:
    """Where the tensors of a UNet with this state dict come from."""
    sources = {}
    for target, tensor in state.items():
        key = UNET + _unet_name(target, shape)
        third = "qkv".index(target.split(".")[-2][-1]) if ".qkv." in key else None
        sources[target] = Source(key, third, shape.heads(len(tensor)))
    return sources


def _unet_name(target: str, shape: UNetShape) -> str:
    found = _IN_BLOCK.fullmatch(target)
    if found is None:
        module, _, leaf = target.rpartition(".")
        return f"{_OUTSIDE[module]}.{leaf}"
    way, kind, index, module, leaf = found[1], found[3], int(found[4]), found[5], found[6]
    level, sampler = int(found[2] or 0), kind.endswith("samplers")
    block = level * (shape.num_res_blocks + 1) + (shape.num_res_blocks if sampler else index)
    if way == "mid":
        place = f"middle_block.{2 * index if kind == 'resnets' else 1}"
    elif way == "down":
        place = f"input_blocks.{1 + block}.{int(kind == 'attentions')}"
    else:  # the sampler comes after the resnet and perhaps an attention
        after = 1 + shape.attends[::-1][level]
        place = f"output_blocks.{block}.{after if sampler else int(kind == 'attentions')}"
    attention = {} if shape.use_spatial_transformer else _JOINT_ATTENTION
    names = {"resnets": _RESNET, "attentions": attention, "downsamplers": {"conv": "op"}}
    return f"{place}.{names.get(kind, {}).get(module, module)}.{leaf}"


def first_stage_sources(state: Mapping[str, Tensor], coder: CoderShape) -> dict[str, Source]:
    """Where the tensors of an autoencoder with this state dict come from."""
    top = len(coder.widths) - 1
    sources = {}
    for target in state:
        name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{top - int(found[1])}", target)
        name = name.replace("down_blocks", "down")
        for ours, theirs in _FIRST_STAGE_NAMES.items():
            name = name.replace(ours, theirs)
        sources[target] = Source(FIRST_STAGE + name)
    return sources
