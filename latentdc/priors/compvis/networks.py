"""The diffusers counterparts of CompVis' networks, untrained, from the shape in the YAML."""

from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel

from latentdc.errors import InputError
from latentdc.priors.base import Autoencoder
from latentdc.priors.compvis.model import Process
from latentdc.priors.compvis.shape import FirstStage, UNetShape

UNet = Any  # UNet2DConditionModel or UNet2DModel of diffusers, which has no types


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
