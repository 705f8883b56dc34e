"""What the YAML beside a CompVis checkpoint says of UNet and first stage; imports no torch.

Names and defaults are those of CompVis' modules, https://github.com/CompVis/latent-diffusion:
`UNetModel`, and `VQModelInterface` and `AutoencoderKL` with their `ddconfig`.
"""

from dataclasses import dataclass, field
from typing import Literal

from latentdc.recipe import require

GROUPS = 32  # of every group normalisation


def _check_counts(place: str, counts: list[int], factors: list[int]) -> None:
    """Refuse numbers that no network has; the first is the width that the factors multiply."""
    require(
        bool(factors) and min(counts) > 0 and counts[0] % GROUPS == 0,
        f"{place} has positive numbers, at least one level and a width that is a multiple of "
        f"{GROUPS}, got the width {counts[0]}, the levels {factors} and {counts[1:]}.",
    )


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """`unet_config.params`; what stands below the first group has no counterpart in diffusers.

    `num_heads` and `num_head_channels` are two ways to say the same, -1 meaning "not said".
    """

    in_channels: int
    out_channels: int
    model_channels: int
    num_res_blocks: int
    attention_resolutions: list[int]
    channel_mult: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    image_size: int = 64
    num_heads: int = -1
    num_head_channels: int = -1
    use_spatial_transformer: bool = False
    transformer_depth: int = 1
    context_dim: int | None = None

    dims: int = 2
    conv_resample: bool = True
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    num_classes: int | None = None
    num_heads_upsample: int = -1
    n_embed: int | None = None

    dropout: float = 0.0  # these four say nothing about the function of a trained network
    use_checkpoint: bool = False
    use_fp16: bool = False
    legacy: bool = True

    def __post_init__(self) -> None:
        counts = [self.model_channels, self.num_res_blocks, self.transformer_depth]
        _check_counts("unet_config.params", [*counts, *self.channel_mult], self.channel_mult)
        plain: dict[str, object] = {"dims": 2, "conv_resample": True, "use_scale_shift_norm": False}
        plain |= {"resblock_updown": False, "use_new_attention_order": False}
        plain |= {"num_classes": None, "num_heads_upsample": -1, "n_embed": None}
        for name, only in plain.items():
            value = getattr(self, name)
            require(
                value == only,
                f"unet_config.params.{name} is {value}; only {only} can be converted.",
            )
        known = self.num_heads > 0 or self.num_head_channels > 0
        require(
            known and all(width % self.heads(width) == 0 for width in self.attending),
            "unet_config.params has a num_heads or num_head_channels that divides the widths with "
            f"attention ({self.attending}), got {self.num_heads} and {self.num_head_channels}.",
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.model_channels * factor for factor in self.channel_mult)

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has attention; the YAML names levels by their downsampling factor."""
        return tuple(2**level in self.attention_resolutions for level in range(len(self.widths)))

    @property
    def attending(self) -> tuple[int, ...]:
        """Channels of the levels with attention, and of the middle, which always has it."""
        levels = zip(self.widths, self.attends, strict=True)
        return tuple({width: 0 for width, attends in levels if attends} | {self.widths[-1]: 0})

    def heads(self, width: int) -> int:
        """Attention heads at a width; `num_head_channels` wins where the YAML has both."""
        by_channels = self.num_head_channels > 0
        return max(1, width // self.num_head_channels) if by_channels else self.num_heads


@dataclass(frozen=True, kw_only=True)
class CoderShape:
    """`first_stage_config.params.ddconfig`, of encoder and decoder."""

    z_channels: int
    resolution: int
    ch: int
    ch_mult: list[int]
    num_res_blocks: int
    attn_resolutions: list[int]
    double_z: bool = True
    in_channels: int = 3
    out_ch: int = 3
    resamp_with_conv: bool = True
    attn_type: Literal["vanilla"] = "vanilla"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        counts = [self.ch, self.num_res_blocks, self.resolution, self.z_channels, *self.ch_mult]
        _check_counts("first_stage_config.params.ddconfig", counts, self.ch_mult)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.ch * factor for factor in self.ch_mult)

    @property
    def attends(self) -> tuple[bool, ...]:
        """Whether each level has attention; here the YAML names levels by their resolution."""
        sizes = [self.resolution // 2**level for level in range(len(self.widths))]
        return tuple(size in self.attn_resolutions for size in sizes)


@dataclass(frozen=True, kw_only=True)
class FirstStage:
    """`first_stage_config`: an autoencoder, KL where `n_embed` (codes in a codebook) is None."""

    embed_dim: int
    n_embed: int | None
    coder: CoderShape

    def __post_init__(self) -> None:
        vq = self.n_embed is not None
        require(
            self.coder.double_z is not vq and self.coder.resamp_with_conv,
            "first_stage_config.params.ddconfig has double_z true for AutoencoderKL and false for "
            f"VQModelInterface, and resamp_with_conv true; got {self.coder.double_z} and "
            f"{self.coder.resamp_with_conv}.",
        )
        require(
            vq or self.embed_dim == self.coder.z_channels,
            "first_stage_config.params: an AutoencoderKL can be converted if embed_dim equals "
            f"z_channels, got {self.embed_dim} and {self.coder.z_channels}.",
        )
