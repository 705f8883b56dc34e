"""The two forms of an image, uint8 levels and float [-1, 1], and what students see of them."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from latentdc.recipe.checks import require_normalization
from latentdc.typed import check_fields

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def from_uint8(images: Tensor) -> Tensor:
    """(..., H, W) levels 0..255 -> float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """(..., H, W) floats in [-1, 1], clamped -> nearest of the levels 0..255."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def contiguous(images: Tensor) -> Tensor:
    """The same values with rows in memory one after the other, also where a side has length 1.

    Networks are given nothing else: pictures that were read as (H, W, 3) and shifted pixels lie
    channel by channel, which a convolution takes over; some of torch's kernels for that layout
    crash on a CPU (2.14: the gradient of a 1x1 convolution with stride 2). Differentiable.
    """
    return images.contiguous().flatten().view(images.shape)  # strides of a side of 1 are free


class Preprocessing(Protocol):
    """How real, synthetic and test images alike become the input of a network.

    `Normalization` is one; `latentdc.whitening.Whitening` adds ZCA to one.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> the network's input, same shape, differentiable."""

    def facts(self) -> dict[str, object]:
        """All that decides it, in JSON's types: the same facts, the same input."""


@dataclass(frozen=True)
class Normalization:
    """The plain preprocessing: mean and standard deviation of each channel.

    Attributes:
        mean: per channel, of images scaled to [0, 1].
        std: per channel, likewise.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        check_fields(self, "Normalization.")
        require_normalization(self.mean, self.std, "Normalization.")

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> normalised, same shape, differentiable."""
        mean = _channels(self.mean, images.device, images.dtype)
        std = _channels(self.std, images.device, images.dtype)
        return ((images + 1) / 2 - mean) / std

    def inverse(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> in [-1, 1], same shape, differentiable."""
        mean = _channels(self.mean, images.device, images.dtype)
        std = _channels(self.std, images.device, images.dtype)
        return (images * std + mean) * 2 - 1

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`."""
        return asdict(self)


@lru_cache
@torch.inference_mode(False)
def _channels(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(C, 1, 1), sent to a device once, because sending makes the host wait."""
    return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)
