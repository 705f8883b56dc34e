"""What networks see of samples: how real, synthetic and test images alike become their input.

A `Preprocessing` is a normalisation of channels, with ZCA whitening after it, or a standardisation
of vectors. Each is fitted on a training split, and told by that split's hash.
"""

import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.images import Images, from_uint8
from latentdc.io import cached, load_with_metadata, save_tensors
from latentdc.recipe.checks import require_normalization
from latentdc.recipe.fields import check_fields

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_EPS = 0.1  # of a whitening
_CHUNK = 4096  # samples summed at a time
_CONSTANT = 1e-6  # of a value's mean: a spread below it is rounding


class Preprocessing(Protocol):
    """How real, synthetic and test images alike become the input of a network.

    `Normalization` and `Whitening` are of images, `Standardization` is of vectors.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> the network's input, same shape, differentiable."""

    def facts(self) -> dict[str, object]:
        """What decides a network's input, in JSON's types: the same facts, the same input."""


@dataclass(frozen=True)
class Normalization:
    """The plain preprocessing: mean and standard deviation of each channel.

    Attributes:
        mean: per channel, of images scaled to [0, 1].
        std: per channel, likewise.

    Examples:
        >>> import latentdc, torch
        >>> half = latentdc.Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> half(torch.ones(1, 3, 1, 1)).flatten().tolist()  # white, in [-1, 1]
        [2.0, 2.0, 2.0]
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
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(
            f"images are a tensor of floats in [-1, 1], got {dtype}; of levels take "
            "x.float() / 127.5 - 1."
        )
    return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class Standardization:
    """A `Preprocessing` of vectors."""

    mean: Tensor  # (D,) float32, of training vectors
    std: Tensor  # (D,) float32, likewise; 1 where a value never changes
    samples: str  # hash of the training vectors that it was fitted on
    _sent: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, D) vectors -> standardised, differentiable."""
        mean, std = self._on(images.device)
        return (images - mean) / std

    def inverse(self, vectors: Tensor) -> Tensor:
        """(B, D) standardised vectors -> as they were, differentiable."""
        mean, std = self._on(vectors.device)
        return vectors * std + mean

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`; told by the vectors that it follows from."""
        return {"standardized": {"values": len(self.mean), "samples": self.samples}}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation, sent to a device once."""
        if device not in self._sent:
            self._sent[device] = (self.mean.to(device), self.std.to(device))
        return self._sent[device]


def unread_standardization(width: int) -> Standardization:
    """A standardisation for counting the cost of vectors of `width` values that were not read."""
    return Standardization(torch.zeros(width), torch.ones(width), "unread")


Unwhitened = Normalization | Standardization  # what scorers see, of images and of vectors


def fit_standardization(vectors: Images, *, name: str) -> Standardization:
    """Standardisation of a training split's vectors (N, D), whose hash is `name`, by float64."""
    width = vectors.shape[1]
    chunks = [slice(first, first + _CHUNK) for first in range(0, len(vectors), _CHUNK)]
    total = torch.zeros(width, dtype=torch.float64)
    for some in chunks:
        total += vectors[some].double().sum(dim=0)
    mean = total / len(vectors)
    squares = torch.zeros(width, dtype=torch.float64)
    for some in chunks:
        squares += (vectors[some].double() - mean).square().sum(dim=0)
    std = (squares / len(vectors)).sqrt()
    varies = std > _CONSTANT * mean.abs()
    return Standardization(mean.float(), torch.where(varies, std, 1.0).float(), name)


@dataclass(frozen=True, eq=False)
class Whitening:
    """`Normalization`, then ZCA."""

    normalization: Normalization  # of images before they are whitened
    mean: Tensor  # (D,) float32, of normalised training images; D is 3 * H * W
    matrix: Tensor  # (D, D) float32, symmetric
    eps: float  # added to the variances, so that those near zero are not blown up
    images: str  # hash of the training images that it was fitted on
    _sent: dict[tuple[str, torch.device, torch.dtype], Tensor] = field(
        default_factory=dict, repr=False
    )

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> whitened, same shape, differentiable.

        In the precision of the images, under autocast too: half precision would drown the small
        variances.
        """
        mean, matrix = self._like("mean", images), self._like("matrix", images)
        with torch.autocast(images.device.type, enabled=False):
            flat = self.normalization(images).flatten(1)
            return ((flat - mean) @ matrix).view_as(images)

    def inverse(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) whitened images -> in [-1, 1], same shape, differentiable."""
        mean, inverse = self._like("mean", images), self._like("inverse", images)
        with torch.autocast(images.device.type, enabled=False):
            flat = images.flatten(1) @ inverse + mean
            return self.normalization.inverse(flat.view_as(images))

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`.

        The matrix is told by the images that it follows from, not by its bytes, whose last bits
        differ between machines.
        """
        zca = {"eps": self.eps, "values": len(self.mean), "images": self.images}
        return {**self.normalization.facts(), "zca": zca}

    def _like(self, name: str, images: Tensor) -> Tensor:
        """`mean`, `matrix` or its `inverse` where and what images are, sent to a device once."""
        key = (name, images.device, images.dtype)
        if key not in self._sent:
            inverse = name == "inverse"
            value = torch.linalg.inv(self.matrix.double()) if inverse else getattr(self, name)
            self._sent[key] = value.to(images.device, images.dtype)
        return self._sent[key]


def fit_whitening(
    images: Images, normalization: Normalization, *, name: str, eps: float = _EPS
) -> Whitening:
    """The whitening of two or more uint8 images, whose hash is `name`, computed in float64."""
    size = images.shape[1:].numel()
    total = torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for first in range(0, len(images), _CHUNK):
        chunk = from_uint8(images[first : first + _CHUNK]).double()
        flat = normalization(chunk).flatten(1)
        total += flat.sum(dim=0)
        products.addmm_(flat.T, flat)
    mean = total / len(images)
    covariance = (products - len(images) * torch.outer(mean, mean)) / (len(images) - 1)
    variances, axes = torch.linalg.eigh(covariance)
    scales = (variances.clamp(min=0) + eps).rsqrt()
    matrix = (axes * scales) @ axes.T
    return Whitening(normalization, mean.float(), matrix.float(), eps, name)


def cached_whitening(
    folder: Path, images: Images, normalization: Normalization, name: str
) -> Whitening:
    """`fit_whitening`, computed once for these images and kept in the folder of a cache."""
    facts = {**normalization.facts(), "eps": _EPS, "size": images.shape[-1], "images": name}
    return cached(
        folder,
        facts,
        lambda: fit_whitening(images, normalization, name=name),
        load_whitening,
        save_whitening,
        name="zca-{}.safetensors",
        advice="pass another data.cache=FOLDER",
    )


def save_whitening(path: Path, whitening: Whitening) -> None:
    """Write one safetensors file, whole or not at all."""
    facts = {**whitening.normalization.facts(), "eps": whitening.eps, "images": whitening.images}
    tensors = {"mean": whitening.mean, "matrix": whitening.matrix}
    save_tensors(path, tensors, {"facts": json.dumps(facts)})


def load_whitening(path: Path) -> Whitening:
    """What `save_whitening` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not as it was written.
    """
    tensors, metadata = load_with_metadata(path)
    facts = json.loads(metadata["facts"])
    normalization = Normalization(tuple(facts["mean"]), tuple(facts["std"]))
    return Whitening(
        normalization, tensors["mean"], tensors["matrix"], facts["eps"], facts["images"]
    )
