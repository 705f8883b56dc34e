"""What makes the parts of a synthetic set fit together."""

import math
from numbers import Integral, Real

import torch
from torch import Tensor

from latentdc.arguments import require_a
from latentdc.errors import InputError
from latentdc.images import Images, MappedImages
from latentdc.preprocessing import Whitening
from latentdc.recipe.fields import show

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


def require_labels(labels: object, count: int, classes: int) -> None:
    """Refuse labels that are not (count,) int64 indices of classes, and none at all."""
    found = require_tensor(labels, "labels")
    require(
        found.dtype == torch.int64 and found.shape == (count,),
        f"{count} images need as many int64 labels, got {tuple(found.shape)} of {found.dtype}",
    )
    require(count > 0, "it holds at least one image, got none")
    low, high = int(found.min()), int(found.max())
    require(
        0 <= low and high < classes,
        f"labels are indices into {classes} class names, got {low} to {high}",
    )


def require_part(part: object, name: str, count: int, shape: tuple[int, ...] | None) -> Tensor:
    """The part without its graph; refuse another shape, or without one no entry for each image."""
    found = require_tensor(part, name)
    require(
        found.dtype == torch.float32
        and found.shape[:1] == (count,)
        and (shape is None or found.shape == shape),
        f"{name} is float32 with {f'a shape of {shape}' if shape else 'one entry'} for "
        f"{'' if shape else 'each of '}{count} images, got {tuple(found.shape)} of {found.dtype}",
    )
    require(bool(found.isfinite().all()), f"{name} has values that are not finite")
    return found


def require_logits(soft_labels: Tensor) -> None:
    """Refuse soft labels that are probabilities, of which students would see a softmax."""
    sums = soft_labels.sum(dim=1)
    summed = torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    require(
        soft_labels.shape[1] == 1 or not summed or bool((soft_labels < 0).any()),
        "soft_labels are logits, and these are probabilities, none negative and 1 in sum for each "
        "image; give their logarithms, soft_labels.clamp(min=1e-12).log()",
    )


def require_rate(lr: float | None) -> None:
    """Refuse what is no learning rate, nor None."""
    require(
        lr is None or (not isinstance(lr, bool) and isinstance(lr, Real) and 0 < lr < math.inf),
        f"learned_lr is a positive number, got {show(lr)}",
    )


def require_grid(grid: int | None, side: int) -> None:
    """Refuse what is no number of pictures along a side of so many px, nor None."""
    require(
        grid is None
        or (not isinstance(grid, bool) and isinstance(grid, Integral) and 1 <= grid <= side),
        f"grid is the number of pictures along a side of an image, got {show(grid)}",
    )


def require_whitening(whitening: object, values: int) -> None:
    """Refuse a whitening of images of other than so many values."""
    require_a(Whitening, whitening, "whitening", "such as fit_whitening makes")
    assert isinstance(whitening, Whitening)
    fitted = len(whitening.mean)
    require(
        fitted == values,
        f"the whitening is of images of {values} values, got one of {fitted}",
    )


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
