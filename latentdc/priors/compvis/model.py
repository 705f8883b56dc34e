"""A whole latent diffusion model of CompVis, as its YAML describes it; imports no torch."""

from dataclasses import dataclass
from typing import Literal

from latentdc.priors.compvis.shape import FirstStage, UNetShape
from latentdc.recipe import require


@dataclass(frozen=True, kw_only=True)
class Classes:
    """`cond_stage_config.params` of a ClassEmbedder."""

    embed_dim: int
    n_classes: int = 1000
    key: str = "class"


@dataclass(frozen=True, kw_only=True)
class Process:
    """What `model.params` says of the diffusion process and of the latents' scale."""

    timesteps: int = 1000
    beta_schedule: Literal["linear"] = "linear"  # linear in the square root, in CompVis' words
    linear_start: float = 1e-4
    linear_end: float = 2e-2
    parameterization: Literal["eps", "v"] = "eps"
    scale_factor: float = 1.0
    scale_by_std: bool = False  # the factor was measured, and stands among the weights


@dataclass(frozen=True, kw_only=True)
class LatentDiffusion:
    """A whole model; `classes` is None for an unconditional one."""

    unet: UNetShape
    first_stage: FirstStage
    classes: Classes | None
    process: Process

    def __post_init__(self) -> None:
        unet, width = self.unet, self.classes.embed_dim if self.classes else None
        require(
            unet.in_channels == unet.out_channels == self.first_stage.embed_dim,
            "unet_config.params.in_channels and out_channels are the embed_dim of "
            f"first_stage_config ({self.first_stage.embed_dim}), got {unet.in_channels} and "
            f"{unet.out_channels}.",
        )
        require(
            unet.use_spatial_transformer is (self.classes is not None)
            and unet.context_dim == width,
            "a class-conditional UNet has use_spatial_transformer and context_dim equal to the "
            "ClassEmbedder's embed_dim, an unconditional one neither; got "
            f"use_spatial_transformer={unet.use_spatial_transformer}, "
            f"context_dim={unet.context_dim} and embed_dim={width}.",
        )
