"""RDED's selection: of random crops of random images, those that a teacher finds most realistic.

Sun et al., "On the Diversity and Realism of Distilled Dataset", CVPR 2024,
https://arxiv.org/abs/2312.03526, and its released code: of every image of a pool several square
crops are scaled to the size of a cell; the realism of a crop is -log p_y of a teacher that sees it
on a canvas of the mean colour; each image gives its best crop, each class its best images.
Deviations: crops are cut from images as they were decoded (square, at the resolution of the set),
all draws are keyed by class and image, and the teacher may see crops enlarged in place of the
canvas, on which networks for small images recognise nothing (docs/pca.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.images import from_uint8

BATCH = 256  # crops that the teacher judges at once


class Crops(NamedTuple):
    """The chosen crops of one class, the most realistic one first."""

    images: Tensor  # (n, 3, cell, cell) uint8
    losses: Tensor  # (n,) -log p_y, ascending
    rows: Tensor  # (n,) training images that they were cut from
    recognised: float  # share of all crops, kept or not, whose label is the teacher's first guess


def realistic_crops(
    train: Dataset,
    label: int,
    teacher: nn.Module,
    *,
    count: int,
    cell: int,
    pool: int,
    crops: int,
    scale: tuple[float, float],
    mean: Sequence[float],
    canvas: bool = True,
    seed: int,
    device: torch.device,
) -> Crops:
    """The `count` best crops of a class, at most one of an image.

    Args:
        train: whose images are cropped.
        label: of the class.
        teacher: (B, 3, H, W) images in [-1, 1] -> (B, C) logits.
        count: crops to choose.
        cell: their side in pixels.
        pool: images to draw; a smaller class takes part as a whole.
        crops: of each of them.
        scale: smallest and largest share of the area.
        mean: colour around a crop, of images in [0, 1]; black or white would mislead the teacher.
        canvas: whether the teacher sees crops amid that colour, else enlarged.
        seed: of the draws.
        device: of the teacher.

    Raises:
        InputError: the pool is smaller than `count`.
    """
    members = train.different(label)
    rows = members[choose(len(members), pool, generator(seed, "rded pool", label))]
    if len(rows) < count:
        raise InputError(
            f"RDED chooses {count} crops of different images of class "
            f"{train.class_names[label]!r}, and its pool has {len(rows)}; raise rded.pool, or "
            "choose a smaller ipc or combine.grid."
        )
    kept, losses, known = [], [], []
    for row in rows.split(max(1, BATCH // crops)):
        source = [generator(seed, "rded crops", int(train.hashes[index])) for index in row]
        cut = torch.cat(
            [
                _cut(train.images[r : r + 1], crops, scale, cell, s)
                for r, s in zip(row.tolist(), source, strict=True)
            ]
        )  # (B * crops, 3, cell, cell)
        shown = amid(cut, mean, train.resolution) if canvas else enlarged(cut, train.resolution)
        loss, right = realism(teacher, shown.to(device), label)
        known.append(right)
        best = loss.view(-1, crops).argmin(dim=1) + torch.arange(len(row)) * crops
        kept.append(cut[best])
        losses.append(loss[best])
    loss = torch.cat(losses)
    first = loss.argsort(stable=True)[:count]
    recognised = float(torch.cat(known).double().mean())
    return Crops(torch.cat(kept)[first], loss[first], rows[first], recognised)


@torch.no_grad()
def realism(teacher: nn.Module, shown: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """(N,) -log p_y of what is shown (N, 3, S, S), and (N,) whether y is the teacher's first guess.

    Small is realistic. Both on the CPU.
    """
    logits = teacher(shown).float()
    target = torch.full((len(shown),), label, device=logits.device)
    loss = F.cross_entropy(logits, target, reduction="none")
    return loss.cpu(), (logits.argmax(dim=1) == target).cpu()


def amid(crops: Tensor, mean: Sequence[float], size: int) -> Tensor:
    """Crops (N, 3, h, h) uint8 in the middle of a canvas of a colour: (N, 3, size, size)."""
    before = (size - crops.shape[-1]) // 2
    place = slice(before, before + crops.shape[-1])
    canvas = (torch.tensor(mean) * 2 - 1).view(1, 3, 1, 1).expand(len(crops), 3, size, size).clone()
    canvas[:, :, place, place] = from_uint8(crops)
    return canvas


def enlarged(crops: Tensor, size: int) -> Tensor:
    """Crops (N, 3, h, h) uint8 as images (N, 3, size, size) in [-1, 1]."""
    return from_uint8(tv.resize(crops, [size, size], antialias=True))


def _cut(
    image: Tensor, count: int, scale: tuple[float, float], cell: int, source: Generator
) -> Tensor:
    """(count, 3, cell, cell) random squares of one (1, 3, S, S) uint8 image, antialiased."""
    size = image.shape[-1]
    share = scale[0] + (scale[1] - scale[0]) * torch.rand(count, generator=source)
    sides = (share.sqrt() * size).round().clamp(1, size).long()
    corners = (torch.rand(count, 2, generator=source) * (size - sides + 1)[:, None]).long()
    return torch.cat(
        [
            tv.resized_crop(image, top, left, side, side, [cell, cell], antialias=True)
            for side, (top, left) in zip(sides.tolist(), corners.tolist(), strict=True)
        ]
    )
