"""What the YAML beside a CompVis checkpoint says of its networks; imports no torch.

Names and defaults are those of CompVis' modules, https://github.com/CompVis/latent-diffusion:
`UNetModel`, and `VQModelInterface` and `AutoencoderKL` with their `ddconfig`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from latentdc import config
from latentdc.errors import InputError
from latentdc.recipe.checks import require
from latentdc.recipe.fields import build
from latentdc.recipe.subsets import wordnet_ids

T = TypeVar("T")
_UNCONDITIONAL = "__is_unconditional__"
_TRAINING = ("ckpt_path", "lossconfig", "monitor", "ignore_keys", "image_key", "colorize_nlabels")
_IMAGENET = 1000
_UNET_ONLY = {  # what has no counterpart in diffusers but this value, which is CompVis' default
    "dims": 2,
    "conv_resample": True,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "use_new_attention_order": False,
    "num_classes": None,
    "num_heads_upsample": -1,
    "n_embed": None,
}
_UNET_IGNORED = ("dropout", "use_checkpoint", "use_fp16", "legacy")  # without a say in the function
_CODER_ONLY = {
    "resamp_with_conv": True,
    "attn_type": "vanilla",
    "tanh_out": False,
    "give_pre_end": False,
    "use_linear_attn": False,
}
_GROUPS = 32  # of every group normalisation


def _check_counts(place: str, counts: list[int], factors: list[int]) -> None:
    """Refuse numbers that no network has; the first is the width that the factors multiply."""
    require(
        bool(factors) and min(counts) > 0 and counts[0] % _GROUPS == 0,
        f"{place} has positive numbers, at least one level and a width that is a multiple of "
        f"{_GROUPS}, got the width {counts[0]}, the levels {factors} and {counts[1:]}.",
    )


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """`unet_config.params`.

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

    def __post_init__(self) -> None:
        counts = [self.model_channels, self.num_res_blocks, self.transformer_depth]
        _check_counts("unet_config.params", [*counts, *self.channel_mult], self.channel_mult)
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
    in_channels: int = 3
    out_ch: int = 3

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
        require(
            self.n_embed is not None or self.embed_dim == self.coder.z_channels,
            "first_stage_config.params: an AutoencoderKL can be converted if embed_dim equals "
            f"z_channels, got {self.embed_dim} and {self.coder.z_channels}.",
        )


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
    unet = _at(params, "unet_config")
    _kind(unet, "unet_config", "UNetModel")
    return LatentDiffusion(
        unet=_typed(
            UNetShape, _at(unet, "params"), "unet_config.params", _UNET_ONLY, _UNET_IGNORED
        ),
        first_stage=_first_stage(_at(params, "first_stage_config")),
        classes=_classes(params.get("cond_stage_config", _UNCONDITIONAL)),
        process=_typed(Process, known, "model.params"),
    )


def _first_stage(config: dict[str, Any]) -> FirstStage:
    kind = _kind(config, "first_stage_config", "VQModelInterface", "VQModel", "AutoencoderKL")
    params, kl = _at(config, "params"), kind == "AutoencoderKL"
    place = "first_stage_config.params"
    needed = ("embed_dim",) if kl else ("embed_dim", "n_embed")
    unknown = set(params) - {*needed, "ddconfig", *_TRAINING}
    if unknown or any(not isinstance(params.get(key), int) for key in needed):
        raise InputError(
            f"{place} of {kind} has the whole numbers {' and '.join(needed)}, a ddconfig, and "
            f"perhaps {', '.join(_TRAINING)}; got the keys {', '.join(params)}."
        )
    coder = {"double_z": True} | _at(params, "ddconfig")
    only = _CODER_ONLY | {"double_z": kl}
    return FirstStage(
        embed_dim=params["embed_dim"],
        n_embed=None if kl else params["n_embed"],
        coder=_typed(CoderShape, coder, f"{place}.ddconfig", only, ("dropout",)),
    )


def _classes(config: Any) -> Classes | None:
    if config == _UNCONDITIONAL:
        return None
    if not isinstance(config, dict):
        raise InputError(
            f"cond_stage_config is {config!r}; known are {_UNCONDITIONAL} and classes."
        )
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


def _typed(
    schema: type[T],
    given: Mapping[str, Any],
    place: str,
    only: Mapping[str, Any] = MappingProxyType({}),
    ignored: Sequence[str] = (),
) -> T:
    """An instance of a dataclass, or what is wrong with a key; `only` have one value each."""
    for key, value in only.items():
        require(
            given.get(key, value) == value,
            f"{place}.{key} is {given.get(key)}; only {value} can be converted.",
        )
    rest = {key: value for key, value in given.items() if key not in (*only, *ignored)}
    try:
        return build(schema, rest)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def class_names(classes: Classes, file: Path | None) -> tuple[str, ...]:
    """A name for each row of the embedding but the last, which stands for no class.

    Args:
        classes: of the YAML.
        file: one name per line. Without it, 1000 classes are ImageNet's, by WordNet id, and others
            are `class_0`, `class_1`, ..., which match no data set by accident.

    Raises:
        InputError: another number of names, or an embedding without a row for no class.
    """
    count = classes.n_classes - 1
    if file is None:
        require(
            classes.n_classes != _IMAGENET,
            f"cond_stage_config has n_classes={_IMAGENET}, which is ImageNet without a row for no "
            "class; guidance needs one. If the last row is that, name the others with --classes.",
        )
        return wordnet_ids() if count == _IMAGENET else tuple(f"class_{i}" for i in range(count))
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    require(
        len(names) == len(set(names)) == count and "" not in names,
        f"{file} has {len(names)} lines, {len(set(names) - {''})} different names; the "
        f"embedding has {count} classes and a row for no class: give {count} names, one a line.",
    )
    return names
