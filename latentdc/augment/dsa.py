"""DSA: differentiable augmentation, one kind (or chain of kinds) drawn per call.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021,
https://arxiv.org/abs/2102.08259, with the constants of its released code. A draw is a value: the
same one applied to real and to synthetic images gives both the same parameters (the paper's
siamese form); a draw of many samples gives each its own, as the training of students wants it. The
released code draws one kind (its mode S, `color_crop_...`) or applies all, one after another (its
mode M, `color+crop+...`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from latentdc.augment.geometry import mirror, pick
from latentdc.images import send

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT, SCALE, ROTATE = 0.125, 0.5, 1.2, 15.0


@dataclass(frozen=True, eq=False)
class Draw:
    """What one call of `augment` does.

    Attributes:
        kind: an augmentation, such as `flip`, or several in their order, such as `color+crop`.
        uniforms: (1, 3 K) for parameters shared by all images, or (B, 3 K), one row per image; in
            [0, 1). Each of the K kinds reads as many of its three columns as it has parameters.
    """

    kind: str
    uniforms: Tensor


def draw_augmentation(strategy: str | None, source: Generator, samples: int = 1) -> Draw | None:
    """Draw one kind of the strategy, and its parameters for `samples` images (1: shared by all).

    Args:
        strategy: kinds joined by `_`, each as likely, such as `color_crop`; a kind may be a chain
            joined by `+`. None draws nothing, which `augment` takes for no augmentation.
        source: CPU generator.
        samples: rows of parameters.
    """
    if strategy is None:
        return None
    kinds = strategy.split("_")
    kind = kinds[int(torch.randint(len(kinds), (), generator=source))]
    return Draw(kind, torch.rand(samples, 3 * len(kind.split("+")), generator=source))


def augment(images: Tensor, draw: Draw | None) -> Tensor:
    """(B, C, H, W) normalised images -> augmented, same shape, differentiable; zeros fill in."""
    if draw is None:
        return images
    uniforms = send(draw.uniforms, images.device).to(images.dtype).expand(len(images), -1)
    for kind, own in zip(draw.kind.split("+"), uniforms.split(3, dim=1), strict=True):
        images = AUGMENTATIONS[kind](images, own)
    return images


def augment_classes(images: Tensor, draws: Sequence[Draw | None], counts: Sequence[int]) -> Tensor:
    """What `augment` gives class by class, by a draw for each; those of one kind go together.

    (B, C, H, W) images in class-major order; draws are of one strategy (all None without one), and
    `counts` the images of each class.
    """
    if len(draws) == 1:
        return augment(images, draws[0])
    drawn = [draw for draw in draws if draw is not None]
    if not drawn:
        return images
    rows = torch.arange(len(images)).split(list(counts))
    order, done = [], []
    for kind in sorted({draw.kind for draw in drawn}):
        alike = [place for place, draw in enumerate(drawn) if draw.kind == kind]
        uniforms = [drawn[place].uniforms.expand(counts[place], -1) for place in alike]
        order.append(torch.cat([rows[place] for place in alike]))
        taken = images[send(order[-1], images.device)]
        done.append(augment(taken, Draw(kind, torch.cat(uniforms))))
    return torch.cat(done)[send(torch.cat(order).argsort(), images.device)]


def color(images: Tensor, uniforms: Tensor) -> Tensor:
    """Brightness, then saturation about each pixel's mean, then contrast about each image's."""
    brightness, saturation, contrast = uniforms[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1)
    images = images + (brightness - 0.5) * BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturation * SATURATION) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + CONTRAST) + mean


def crop(images: Tensor, uniforms: Tensor) -> Tensor:
    """Shift by up to an eighth of the side, by whole pixels."""
    height, width = images.shape[2:]
    most = (int(height * CROP + 0.5), int(width * CROP + 0.5))
    rows = _window(uniforms[:, 0], most[0], height)  # (B, H) into the padded image
    columns = _window(uniforms[:, 1], most[1], width)
    padded = F.pad(images, (most[1], most[1], most[0], most[0]))
    return pick(padded, rows, columns)


def _window(uniform: Tensor, most: int, length: int) -> Tensor:
    """(B, length) indices, shifted by one of the 2 * most + 1 whole numbers from 0."""
    start = _whole(uniform, 2 * most + 1)
    return start[:, None] + torch.arange(length, device=uniform.device)


def cutout(images: Tensor, uniforms: Tensor) -> Tensor:
    """Zero a square of half the side, its centre anywhere on the image."""
    height, width = images.shape[2:]
    rows = _covered(uniforms[:, 0], height)  # (B, H)
    columns = _covered(uniforms[:, 1], width)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0)


def _covered(uniform: Tensor, length: int) -> Tensor:
    """(B, length) whether the square covers this row or column; the border cuts it off."""
    size = int(length * CUTOUT + 0.5)
    centre = _whole(uniform, length + 1 - size % 2)[:, None]
    place = torch.arange(length, device=uniform.device)
    return (place >= centre - size // 2) & (place < centre - size // 2 + size)


def _whole(uniform: Tensor, count: int) -> Tensor:
    """Whole numbers below `count`, which a rounded product could reach."""
    return (uniform * count).long().clamp(max=count - 1)


def flip(images: Tensor, uniforms: Tensor) -> Tensor:
    """Mirror left and right, half of the time."""
    return mirror(images, uniforms[:, 0] < 0.5)


def scale(images: Tensor, uniforms: Tensor) -> Tensor:
    """Stretch width and height apart, each by a factor of 1 / 1.2 to 1.2."""
    factors = uniforms[:, :2] * (SCALE - 1 / SCALE) + 1 / SCALE
    return _affine(images, torch.diag_embed(factors))


def rotate(images: Tensor, uniforms: Tensor) -> Tensor:
    """Turn by up to 15 degrees either way."""
    angle = (uniforms[:, 0] - 0.5) * 2 * math.radians(ROTATE)
    cos, sin = angle.cos(), angle.sin()
    return _affine(images, torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2))


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Read each pixel p (in [-1, 1], corners at +-1) from matrix (B, 2, 2) @ p, bilinearly."""
    theta = F.pad(matrix, (0, 1))  # (B, 2, 3), no translation
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


# The keys are those of recipe.checks.AUGMENTATIONS.
AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
