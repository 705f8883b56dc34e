"""ZCA whitening, as a preprocessing of real, synthetic and test images alike.

With the covariance C = U diag(s) U^T of the normalised training images, flattened and centred, an
image x becomes (x - mean) U diag(1 / sqrt(s + eps)) U^T: decorrelated pixels that still look like
the image. MTT (Cazenavette et al. 2022, https://arxiv.org/abs/2203.11932) whitens images in [0, 1]
with eps 0.1 and without normalising them: mean 0 and std 1 here.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from latentdc.data.mapped import Images
from latentdc.images import Normalization, from_uint8

EPS = 0.1
_CHUNK = 4096  # images summed at a time


@dataclass(frozen=True, eq=False)
class Whitening:
    """`Normalization`, then ZCA.

    Attributes:
        normalization: of images before they are whitened.
        mean: (D,) float32, of normalised training images; D is 3 * H * W.
        matrix: (D, D) float32, symmetric.
        eps: added to the variances, so that those near zero are not blown up.
        images: hash of the training images that it was fitted on.
    """

    normalization: Normalization
    mean: Tensor
    matrix: Tensor
    eps: float
    images: str
    _sent: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False
    )
    _inverses: dict[tuple[torch.device, torch.dtype], Tensor] = field(
        default_factory=dict, repr=False
    )

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> whitened, same shape, differentiable.

        In the precision of the images, under autocast too: half precision would drown the small
        variances.
        """
        mean, matrix = self._on(images.device, images.dtype)
        with torch.autocast(images.device.type, enabled=False):
            flat = self.normalization(images).flatten(1)
            return ((flat - mean) @ matrix).view_as(images)

    def inverse(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) whitened images -> in [-1, 1], same shape, differentiable."""
        mean, _ = self._on(images.device, images.dtype)
        key = (images.device, images.dtype)
        if key not in self._inverses:
            inverted = torch.linalg.inv(self.matrix.double())
            self._inverses[key] = inverted.to(images.device, images.dtype)
        with torch.autocast(images.device.type, enabled=False):
            flat = images.flatten(1) @ self._inverses[key] + mean
            return self.normalization.inverse(flat.view_as(images))

    def facts(self) -> dict[str, object]:
        """See `Preprocessing.facts`.

        The matrix is told by the images that it follows from, not by its bytes, whose last bits
        differ between machines.
        """
        zca = {"eps": self.eps, "values": len(self.mean), "images": self.images}
        return {**self.normalization.facts(), "zca": zca}

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and matrix, sent to a device once."""
        if (device, dtype) not in self._sent:
            self._sent[device, dtype] = (self.mean.to(device, dtype), self.matrix.to(device, dtype))
        return self._sent[device, dtype]


def fit_whitening(
    images: Images, normalization: Normalization, *, name: str, eps: float = EPS
) -> Whitening:
    """The whitening of a training split, computed in float64.

    Args:
        images: (N, 3, H, W) uint8, N at least 2.
        normalization: applied before.
        name: hash of the images.
        eps: added to the variances.
    """
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


def to_bytes(whitening: Whitening) -> bytes:
    """The content of a safetensors file that `read_whitening` reads."""
    facts = json.dumps(
        {**whitening.normalization.facts(), "eps": whitening.eps, "images": whitening.images}
    )
    content: bytes = safetensors.torch.save(
        {"mean": whitening.mean, "matrix": whitening.matrix}, {"facts": facts}
    )
    return content


def read_whitening(path: Path) -> Whitening:
    """What `to_bytes` wrote.

    Raises:
        OSError, SafetensorError, KeyError, ValueError, TypeError: the file is damaged.
    """
    with safe_open(path, "pt") as file:
        facts = json.loads((file.metadata() or {})["facts"])
        mean, matrix = file.get_tensor("mean"), file.get_tensor("matrix")
    if matrix.shape != (len(mean), len(mean)):
        raise ValueError(f"{path}: a mean of {len(mean)} values, a matrix of {tuple(matrix.shape)}")
    normalization = Normalization(tuple(facts["mean"]), tuple(facts["std"]))
    return Whitening(normalization, mean, matrix, float(facts["eps"]), str(facts["images"]))
