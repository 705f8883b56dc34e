"""What makes the parts of a synthetic set fit together."""

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.images import Images, MappedImages

_LEVELS = 10  # float images without negative values that go beyond it are levels 0 to 255


def require_samples(images: object) -> Images:
    """The images without their graph; refuse what is none, (N, 3, H, H), nor vectors (N, D)."""
    samples = images if isinstance(images, MappedImages) else require_tensor(images, "images")
    shape, dtype = tuple(samples.shape), samples.dtype
    vectors = len(shape) == 2 and shape[1] > 0 and dtype in (torch.float16, torch.float32)
    pictures = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] > 0
    require(
        vectors or (pictures and dtype in (torch.uint8, torch.float32)),
        "images are (N, 3, H, H) of uint8 or float32, or vectors (N, D) of float32, got "
        f"{shape} of {dtype}",
    )
    if not isinstance(samples, Tensor) or dtype == torch.uint8 or samples.numel() == 0:
        return samples
    require(bool(samples.isfinite().all()), "images has values that are not finite")
    low, high = float(samples.min()), float(samples.max())
    require(
        vectors or low < 0 or high <= _LEVELS,
        f"float images are nominally in [-1, 1], got {low:.3g} to {high:.3g}, which look like "
        "levels 0 to 255; make them uint8, or scale them by x / 127.5 - 1",
    )
    return samples


def require_tensor(part: object, name: str) -> Tensor:
    """The part without its graph, if it is a tensor."""
    if not isinstance(part, Tensor):
        require(False, f"{name} is a tensor, got a {type(part).__name__}")
    assert isinstance(part, Tensor)
    return part.detach()


def require(condition: bool, message: str) -> None:
    """Refuse a set of whose parts the condition does not hold."""
    if not condition:
        raise InputError(f"a synthetic set does not fit together: {message}.")
