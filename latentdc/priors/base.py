"""The seam between distillation and the space it optimises in, and how its frozen networks run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from latentdc.errors import InputError
from latentdc.preprocessing import Preprocessing
from latentdc.recipe.fields import show

Autoencoder = Any  # AutoencoderKL, AutoencoderTiny or VQModel of diffusers, which has no types
PrecisionName = Literal["no", "bf16", "float32"]


class Prior(Protocol):
    """A frozen generative model whose latents are optimised in place of pixels.

    Attributes:
        resolution: height and width of decoded images; of vectors D.
        has_noise: whether `decode` needs a fixed noise tensor per image, shaped like its latent.
        class_names: classes that `condition` knows, in order; None if the prior has no classes
            of its own.
        identity: kind and content hash of the weights, for a set's provenance.

    Examples:
        >>> import latentdc, torch
        >>> prior = latentdc.load_prior(latentdc.PriorSettings(kind="pixel"), resolution=8)
        >>> z = prior.encode(torch.zeros(2, 3, 8, 8))
        >>> tuple(prior.decode(z, prior.condition(torch.tensor([0, 1])), None).shape)
        (2, 3, 8, 8)
    """

    resolution: int
    has_noise: bool
    class_names: tuple[str, ...] | None
    identity: str

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) of one latent; of vectors (D,)."""

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape), without gradients."""

    def condition(self, labels: Tensor) -> Tensor | None:
        """(B,) labels of this prior's classes -> (B, T, D) conditions to start from, or None."""

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """The way back to (B, 3, H, W) images: a function of its arguments, differentiable in z, c.

        Output in [-1, 1], except from a pixel prior that does not clamp; or (B, D) vectors.
        """


@dataclass(frozen=True)
class LoadRequest:
    """What a prior is loaded for and where, beside its settings; see `load_prior`."""

    resolution: int
    class_names: Sequence[str] | None
    normalization: Preprocessing | None
    seed: int
    precision: PrecisionName
    device: torch.device | str

    @property
    def is_outline(self) -> bool:
        """Whether networks are built from their configs alone."""
        return torch.device(self.device).type == "meta"


class Denoiser(Protocol):
    """A frozen network that predicts noise under a condition of T tokens of width D."""

    null: Tensor  # (1, T, D), the condition that stands for no class

    @property
    def network(self) -> nn.Module:
        """What is called in every step."""

    def condition(self, labels: Tensor) -> Tensor | None:
        """(B,) labels -> (B, T, D) learned class embeddings, None if unconditional."""

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """Prediction at noisy latents (B, C, h, w), timestep (), conditions (B, T, D).

        (B, C, h, w); or (B, 2C, h, w) where the network learned the noise's variance too.
        """


class _Reached(Exception):
    """The middle of a network, whose rest need not run."""


def middle_features(
    denoiser: Denoiser, x: Tensor, timestep: Tensor, context: Tensor | None
) -> Tensor:
    """What the middle block of a denoiser makes; nothing after it runs.

    The `mid_block` of a UNet, (B, D, h', w'); of a DiT's n blocks the one with index n // 2,
    (B, N, D).

    Raises:
        InputError: a network without such a block, or a compiled one.
    """
    network: Any = denoiser.network
    blocks = getattr(network, "transformer_blocks", None)
    middle = blocks[len(blocks) // 2] if blocks else getattr(network, "mid_block", None)
    if middle is None:
        raise InputError(
            f"features are those of the middle block of a UNet or a DiT, and this "
            f"{type(network).__name__} has none; take another prior."
        )
    if network._compiled_call_impl is not None:
        raise InputError("features need a network that is not compiled; set prior.compile=false.")
    found: list[Tensor] = []

    def reach(_: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output)
        raise _Reached

    hook = middle.register_forward_hook(reach)
    try:
        denoiser(x, timestep, context)
    except _Reached:
        pass
    finally:
        hook.remove()
    return found[0]


def require_batch(images: object, resolution: int) -> Tensor:
    """Images as they are; what is no batch (B, 3, H, W) of floats of this size is refused.

    So are, on a CPU, values that are not finite.
    """
    fits = isinstance(images, Tensor) and images.ndim == 4 and images.shape[1] == 3
    if not isinstance(images, Tensor) or not fits or not images.is_floating_point():
        raise InputError(
            f"images are floats (B, 3, H, W) in [-1, 1], got {_kind(images)}; of levels take "
            "x.float() / 127.5 - 1."
        )
    if images.shape[2:] != (resolution, resolution):
        raise InputError(
            f"this prior encodes images of {resolution} px, got {tuple(images.shape)}; resize "
            "them, or load it with resolution=... of theirs."
        )
    return require_finite(images, "images")


def require_latents(
    z: object, shape: Sequence[int], name: str = "z", *, count: int | None = None, least: int = 0
) -> Tensor:
    """Latents (B, *shape) as they are; what is something else is refused.

    `count` is B, if it is known, and `least` what it is at least.
    """
    fits = (
        isinstance(z, Tensor)
        and z.is_floating_point()
        and z.shape[1:] == tuple(shape)
        and z.ndim == 1 + len(shape)
        and len(z) >= least
        and count in (None, len(z))
    )
    if isinstance(z, Tensor) and fits:
        return z
    wanted = ", ".join(["B" if count is None else str(count), *map(str, shape)])
    more = f", B being {least} or more" if least and not count else ""
    raise InputError(f"{name} holds floats of the shape ({wanted}){more}, got {_kind(z)}.")


def _kind(value: object) -> str:
    """A tensor's or an array's dtype and shape, or what else it is."""
    if not hasattr(value, "shape"):
        return show(value)[:60]
    kind = "" if isinstance(value, Tensor) else f" in a {type(value).__name__}, not a Tensor"
    return f"{getattr(value, 'dtype', '')} of {tuple(value.shape)}{kind}"


def placed(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Values where the weights of a prior are, and in their precision; outlines are refused."""
    if values.device.type == "meta" and device.type != "meta":
        raise InputError(
            f"this prior is on {device}, and takes tensors that hold values, got one on meta."
        )
    return values.to(device, dtype)


def require_finite(values: Tensor, name: str) -> Tensor:
    """Refuse NaN and infinity, on a CPU alone: a GPU would be waited for."""
    if values.device.type == "cpu" and not bool(values.isfinite().all()):
        raise InputError(f"{name} holds values that are not finite; take finite ones.")
    return values


def network_autocast(
    device: torch.device, precision: PrecisionName
) -> AbstractContextManager[object]:
    """bf16 or float32 around a network; with `no`, whatever autocast is on already.

    For the networks alone: latents, schedule, codes and images stay in float32.
    """
    if precision == "no" or device.type == "meta":  # where nothing is computed
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
