"""Changes of the colours of views: RandAugment, colour jitter, lighting.

Cubuk et al., "RandAugment", NeurIPS 2020, https://arxiv.org/abs/1909.13719, with torchvision's
operations; jitter and lighting as the protocol of IDC (https://arxiv.org/abs/2205.14959) has them.
One row of parameters per image, as in `geometry`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from latentdc.images import from_uint8, send, to_uint8

_LEVELS = 30  # of magnitude
_EIGENVALUES = (0.2175, 0.0188, 0.0045)  # of ImageNet's colours, with the vectors below in columns
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)

_Operation = Callable[[Tensor, float], Tensor]  # (B, 3, H, W) uint8 and a signed share of _LEVELS


def _tv() -> Any:
    """Torchvision's functions; importing them takes a second, and most protocols do without."""
    from torchvision.transforms.v2 import functional

    return functional


def _affine(images: Tensor, *, shear: tuple[float, float], translate: tuple[int, int]) -> Tensor:
    moved: Tensor = _tv().affine(
        images, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear), center=[0, 0]
    )
    return moved


def _shear(images: Tensor, share: float, axis: int) -> Tensor:
    degrees = math.degrees(math.atan(0.3 * share))
    return _affine(images, shear=((degrees, 0.0), (0.0, degrees))[axis], translate=(0, 0))


def _translate(images: Tensor, share: float, axis: int) -> Tensor:
    pixels = int(150 / 331 * images.shape[-1 - axis] * share)
    return _affine(images, shear=(0.0, 0.0), translate=((pixels, 0), (0, pixels))[axis])


# torchvision's, in its order. Those that move, turn or reweigh an image do so either way.
OPERATIONS: dict[str, _Operation] = {
    "identity": lambda images, share: images,
    "shear-x": partial(_shear, axis=0),
    "shear-y": partial(_shear, axis=1),
    "translate-x": partial(_translate, axis=0),
    "translate-y": partial(_translate, axis=1),
    "rotate": lambda images, share: _tv().rotate(images, 30 * share),
    "brightness": lambda images, share: _tv().adjust_brightness(images, 1 + 0.9 * share),
    "color": lambda images, share: _tv().adjust_saturation(images, 1 + 0.9 * share),
    "contrast": lambda images, share: _tv().adjust_contrast(images, 1 + 0.9 * share),
    "sharpness": lambda images, share: _tv().adjust_sharpness(images, 1 + 0.9 * share),
    "posterize": lambda images, share: _tv().posterize(images, 8 - round(4 * abs(share))),
    "solarize": lambda images, share: _tv().solarize(images, 255 * (1 - abs(share))),
    "autocontrast": lambda images, share: _tv().autocontrast(images),
    "equalize": lambda images, share: _tv().equalize(images),
}


def draw_operations(count: int, operations: int, magnitude: int, source: Generator) -> Tensor:
    """(N, operations, 2): index into `OPERATIONS`, and the magnitude's share with a sign."""
    kinds = torch.randint(len(OPERATIONS), (count, operations), generator=source)
    signs = torch.randint(2, (count, operations), generator=source) * 2 - 1
    return torch.stack([kinds.float(), signs * magnitude / _LEVELS], dim=2)


def randaugment(images: Tensor, draws: Tensor) -> Tensor:
    """Apply `draws` (B, operations, 2), on the CPU, to images in [-1, 1], in their 256 levels.

    Images with the same operation and sign go through it together, so the device waits for nothing.
    """
    levels = to_uint8(images)
    functions = list(OPERATIONS.values())
    for step in draws.unbind(dim=1):
        for kind, share in {(int(kind), share) for kind, share in step.tolist()}:
            alike = (step[:, 0] == kind) & (step[:, 1] == share)
            rows = send(alike.nonzero().squeeze(1), images.device)
            levels[rows] = functions[kind](levels[rows], share)
    return from_uint8(levels)


def draw_jitter(count: int, strength: float, source: Generator) -> Tensor:
    """(N, 6): the order of brightness, contrast and saturation, and the change of each."""
    order = torch.rand(count, 3, generator=source).argsort(dim=1)
    change = (torch.rand(count, 3, generator=source) * 2 - 1) * strength
    return torch.cat([order.float(), change], dim=1)


def jitter(images: Tensor, draws: Tensor) -> Tensor:
    """Move each image away from, or towards, black, its mean grey and its own grey."""
    unit = (images + 1) / 2
    for place in range(3):
        kind = draws[:, place : place + 1].long()  # (B, 1)
        change = draws.gather(1, 3 + kind)[:, :, None, None]
        grey = _tv().rgb_to_grayscale(unit)
        means = grey.mean(dim=(2, 3), keepdim=True).expand_as(grey)
        goals = torch.stack([torch.zeros_like(grey), means, grey], dim=1)  # (B, 3, 1, H, W)
        goal = goals.gather(1, kind[:, :, None, None, None].expand_as(goals[:, :1])).squeeze(1)
        unit = unit + change * (goal - unit)
    return unit * 2 - 1


def lighting(images: Tensor, strengths: Tensor) -> Tensor:
    """Add `strengths` (B, 3) of ImageNet's principal colours to every pixel in [0, 1]."""
    vectors = torch.tensor(EIGENVECTORS) * torch.tensor(_EIGENVALUES)
    color = strengths @ send(vectors, images.device).mT  # (B, 3)
    return images + 2 * color[:, :, None, None]
