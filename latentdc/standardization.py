"""What networks see of feature vectors: every value with mean 0 and standard deviation 1.

Extracted features come in any scale; standardised, one learning rate fits them all.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentdc.data.mapped import Images
from latentdc.images import Normalization

_CHUNK = 4096  # vectors summed at a time
_CONSTANT = 1e-6  # of a value's mean: a spread below it is rounding


@dataclass(frozen=True, eq=False)
class Standardization:
    """A `Preprocessing` of vectors.

    Attributes:
        mean: (D,) float32, of training vectors.
        std: (D,) float32, likewise; 1 where a value never changes.
        samples: hash of the training vectors that it was fitted on.
    """

    mean: Tensor
    std: Tensor
    samples: str
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


def outline(width: int) -> Standardization:
    """Of vectors of `width` values that nobody has read, for counting what they would cost."""
    return Standardization(torch.zeros(width), torch.ones(width), "unread")


Plain = Normalization | Standardization  # what scorers see, of images and of vectors


def fit_standardization(vectors: Images, *, name: str) -> Standardization:
    """Of a training split, computed in float64.

    Args:
        vectors: (N, D) floats.
        name: hash of the vectors.
    """
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
