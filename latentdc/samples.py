"""The two kinds of samples, told apart by their shape: images (N, 3, H, W), vectors (N, D).

What holds for both is written once: a sample's `size` is the last number of its shape, pixels of
an image's side or values of a vector, and networks are built for it.
"""

from typing import Literal

from torch import Tensor

from latentdc.data.mapped import Images
from latentdc.images import from_uint8

Kind = Literal["images", "vectors"]


def kind_of(samples: Images) -> Kind:
    """Which of the two they are."""
    return "vectors" if len(samples.shape) == 2 else "images"


def as_floats(samples: Tensor) -> Tensor:
    """What is computed with: levels 0..255 -> float32 in [-1, 1]; other floats -> float32."""
    return samples.float() if samples.is_floating_point() else from_uint8(samples)
