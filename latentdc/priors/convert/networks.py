"""The diffusers counterparts of CompVis' networks, and where each of their tensors comes from.

CompVis numbers the blocks of a UNet from its input to its output, diffusers groups them by level;
its decoders count levels from the image, diffusers' from the latent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.base import Autoencoder
from latentdc.priors.convert.shape import CoderShape, FirstStage, Process, UNetShape

UNet = Any  # UNet2DConditionModel or UNet2DModel of diffusers, which has no types
Leaves = dict[str, str]
Places = dict[str, tuple[str, Leaves]]  # module of diffusers -> module of CompVis, and inside it

UNET, FIRST_STAGE, CLASSES = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
SAME: Leaves = {}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ATTENTION = {  # the number is the third of one joint projection
    "group_norm": "norm",
    "to_q": "qkv 0",
    "to_k": "qkv 1",
    "to_v": "qkv 2",
    "to_out.0": "proj_out",
}
CODER_RESNET = {"conv_shortcut": "nin_shortcut"}
CODER_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


@dataclass(frozen=True)
class Source:
    """A tensor of the checkpoint.

    Attributes:
        key: its name there.
        third: which one, where q, k and v are in one tensor.
        heads: of such an attention.
    """

    key: str
    third: int | None = None
    heads: int = 1


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
    places = _unet_places(shape)
    return {
        target: replace(_source(target, places, UNET), heads=shape.heads(tensor.shape[0]))
        for target, tensor in state.items()
    }


def first_stage_sources(state: Mapping[str, Tensor], coder: CoderShape) -> dict[str, Source]:
    """Where the tensors of an autoencoder with this state dict come from."""
    places = _first_stage_places(coder)
    return {target: _source(target, places, FIRST_STAGE) for target in state}


def _unet_places(shape: UNetShape) -> Places:
    inner = SAME if shape.use_spatial_transformer else UNET_ATTENTION
    count, levels = shape.num_res_blocks, len(shape.widths)
    places: Places = {
        "time_embedding.linear_1": ("time_embed.0", SAME),
        "time_embedding.linear_2": ("time_embed.2", SAME),
        "conv_in": ("input_blocks.0.0", SAME),
        "mid_block.resnets.0": ("middle_block.0", UNET_RESNET),
        "mid_block.attentions.0": ("middle_block.1", inner),
        "mid_block.resnets.1": ("middle_block.2", UNET_RESNET),
        "conv_norm_out": ("out.0", SAME),
        "conv_out": ("out.2", SAME),
    }
    for level in range(levels):
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        attends = shape.attends[levels - 1 - level]
        for index in range(count + 1):
            block = f"input_blocks.{1 + level * (count + 1) + index}"
            places[f"{down}.resnets.{index}"] = (f"{block}.0", UNET_RESNET)
            places[f"{down}.attentions.{index}"] = (f"{block}.1", inner)
            block = f"output_blocks.{level * (count + 1) + index}"
            places[f"{up}.resnets.{index}"] = (f"{block}.0", UNET_RESNET)
            places[f"{up}.attentions.{index}"] = (f"{block}.1", inner)
        last = (level + 1) * (count + 1)
        places[f"{down}.downsamplers.0.conv"] = (f"input_blocks.{last}.0.op", SAME)
        above = 2 if attends else 1  # after the resnet and perhaps an attention
        places[f"{up}.upsamplers.0.conv"] = (f"output_blocks.{last - 1}.{above}.conv", SAME)
    return places


def _first_stage_places(coder: CoderShape) -> Places:
    levels = len(coder.widths)
    places: Places = {name: (name, SAME) for name in ("quant_conv", "post_quant_conv")}
    places["quantize.embedding"] = ("quantize.embedding", SAME)
    for half, blocks in (("encoder", "down"), ("decoder", "up")):
        places[f"{half}.conv_in"] = (f"{half}.conv_in", SAME)
        places[f"{half}.conv_norm_out"] = (f"{half}.norm_out", SAME)
        places[f"{half}.conv_out"] = (f"{half}.conv_out", SAME)
        places[f"{half}.mid_block.resnets.0"] = (f"{half}.mid.block_1", CODER_RESNET)
        places[f"{half}.mid_block.attentions.0"] = (f"{half}.mid.attn_1", CODER_ATTENTION)
        places[f"{half}.mid_block.resnets.1"] = (f"{half}.mid.block_2", CODER_RESNET)
        for level in range(levels):
            theirs = level if blocks == "down" else levels - 1 - level
            ours, source = f"{half}.{blocks}_blocks.{level}", f"{half}.{blocks}.{theirs}"
            for index in range(coder.num_res_blocks + 1):
                places[f"{ours}.resnets.{index}"] = (f"{source}.block.{index}", CODER_RESNET)
                places[f"{ours}.attentions.{index}"] = (f"{source}.attn.{index}", CODER_ATTENTION)
            sampler = f"{blocks}sample"
            places[f"{ours}.{sampler}rs.0.conv"] = (f"{source}.{sampler}.conv", SAME)
    return places


def _source(target: str, places: Places, prefix: str) -> Source:
    """Look up the longest module of a dotted name that has a place."""
    module, _, leaf = target.rpartition(".")
    inside: list[str] = []
    while module not in places:
        module, _, name = module.rpartition(".")
        inside.insert(0, name)
        assert module, f"no place for {target}"
    theirs, leaves = places[module]
    below = leaves.get(".".join(inside), ".".join(inside))
    below, _, third = below.partition(" ")
    path = ".".join(part for part in (theirs, below, leaf) if part)
    return Source(prefix + path, int(third) if third else None)
