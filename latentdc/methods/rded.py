"""RDED: of random crops of random images, those that a classifier finds most realistic, tiled.

Sun et al., "On the Diversity and Realism of Distilled Dataset", CVPR 2024,
https://arxiv.org/abs/2312.03526, and its released code: of every image of a pool several square
crops are scaled to the size of a cell; the realism of a crop is -log p_y of a teacher that sees it
on a canvas of the mean colour; each image gives its best crop, each class its best images.
Deviations: crops are cut from images as they were decoded (square, at the resolution of the set),
all draws are keyed by class and image, and the teacher may see crops enlarged in place of the
canvas, on which networks for small images recognise nothing (docs/records/mosaics.md).
"""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import NamedTuple

import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from latentdc import draws, ranks
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.methods.context import Context, check_call
from latentdc.methods.latents import class_sizes
from latentdc.methods.mosaics import arrange, as_picture, mosaics
from latentdc.modes import in_plain_modes
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.prune.scorers import AT_ONCE, least_accuracy
from latentdc.recipe import Rded
from latentdc.synthetic.synthetic_set import SyntheticSet


class Crops(NamedTuple):
    """The chosen crops of one class, the most realistic one first."""

    images: Tensor  # (n, 3, cell, cell) uint8
    losses: Tensor  # (n,) -log p_y, ascending
    rows: Tensor  # (n,) training images that they were cut from
    recognised: float  # share of all crops, kept or not, that the classifier names rightly


@in_plain_modes
def rded(coreset: Coreset, prior: Prior | None, settings: Rded, context: Context) -> SyntheticSet:
    """The realistic crops of each class of the core set, tiled into mosaics or one by one.

    Raises:
        InputError: a class has too few images.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))  # use a trained one
        >>> context = latentdc.Context(ipc=1, train=train, classifier=lambda: (network, 0.9))
        >>> latentdc.rded(coreset, None, latentdc.Rded(grid=2), context)
        SyntheticSet(10 images of 8 px, uint8, 10 classes: '0', '1', '2', ...; with grid)
    """
    check_call(coreset, settings, Rded, context)
    real = context.core_images(coreset)
    check_crops(class_sizes(real), prior, settings, context)
    classifier, accuracy = context.real_classifier()
    images, recognised = rded_images(real, classifier, settings, context)
    chance, least = least_accuracy([1] * real.num_classes)
    if recognised < least:
        ranks.say(
            "note",
            f"the classifier names {recognised:.1%} of RDED's crops rightly (chance {chance:.1%}), "
            "so its choice says nothing; rded.canvas=false shows it crops enlarged, rded.grid=1 "
            "keeps single crops at full size.",
        )
    return SyntheticSet(
        images,
        torch.arange(real.num_classes).repeat_interleave(context.ipc),
        real.class_names,
        grid=settings.grid,
        provenance={"teacher_accuracy": accuracy, "teacher_accuracy_on_crops": recognised},
    )


def check_crops(
    counts: Mapping[str, int], prior: Prior | None, settings: Rded, context: Context
) -> None:
    """Refuse pools with fewer images than the crops that are wanted, before anything is scored."""
    wanted = settings.grid**2 * context.ipc
    for name, count in counts.items():
        if (pool := min(count, settings.pool)) < wanted:
            raise InputError(
                f"RDED chooses {wanted} crops of different images of class {name!r}, and its pool "
                f"has {pool}; raise rded.pool, or choose a smaller ipc or rded.grid."
            )


def rded_images(
    real: Dataset, classifier: nn.Module, settings: Rded, context: Context
) -> tuple[Tensor, float]:
    """(C * ipc, 3, S, S) uint8, and the share of all crops that the classifier recognises."""
    size, grid, known = real.resolution, settings.grid, []

    def pictures() -> Iterator[Image.Image]:
        for label in range(real.num_classes):
            crops = realistic_crops(real, label, classifier, settings, context)
            known.append(crops.recognised)
            order = arrange(torch.arange(len(crops.rows)), grid, "stride", draws.generator(0))
            yield from (as_picture(crops.images[index]) for index in order.flatten().tolist())

    images = mosaics(pictures(), grid, size, "squash")
    return images, fmean(known)


def realistic_crops(
    train: Dataset, label: int, classifier: nn.Module, settings: Rded, context: Context
) -> Crops:
    """The grid^2 `context.ipc` best crops of a class, at most one of an image.

    The classifier, (B, 3, H, W) images in [-1, 1] -> (B, C) logits, sees them amid the mean colour;
    black or white around them would mislead it.
    """
    count, cell = settings.grid**2 * context.ipc, -(-train.resolution // settings.grid)
    seed, device = context.seed, next(iter(classifier.parameters()), torch.empty(0)).device
    members, pool = train.different(label), draws.generator(seed, "rded pool", label)
    rows = members[draws.choose(len(members), settings.pool, pool)]
    kept, losses, known = [], [], []
    for row in rows.split(max(1, AT_ONCE // settings.crops)):
        source = [draws.generator(seed, "rded crops", int(train.hashes[index])) for index in row]
        cut = torch.cat(
            [
                _cut(train.images[r : r + 1], settings.crops, settings.scale, cell, s)
                for r, s in zip(row.tolist(), source, strict=True)
            ]
        )  # (B * crops, 3, cell, cell)
        size = train.resolution
        shown = amid(cut, context.mean, size) if settings.canvas else enlarged(cut, size)
        loss, right = realism(classifier, shown.to(device), label)
        known.append(right)
        best = loss.view(-1, settings.crops).argmin(dim=1)
        best += torch.arange(len(row)) * settings.crops
        kept.append(cut[best])
        losses.append(loss[best])
    loss = torch.cat(losses)
    first = loss.argsort(stable=True)[:count]
    recognised = float(torch.cat(known).double().mean())
    return Crops(torch.cat(kept)[first], loss[first], rows[first], recognised)


@torch.no_grad()
def realism(classifier: nn.Module, shown: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """(N,) -log p_y of what is shown (N, 3, S, S), and (N,) whether y is named first.

    Small is realistic. Both on the CPU.
    """
    logits = classifier(shown).float()
    target = torch.full((len(shown),), label, device=logits.device)
    loss = F.cross_entropy(logits, target, reduction="none")
    return loss.cpu(), (logits.argmax(dim=1) == target).cpu()


def amid(crops: Tensor, mean: tuple[float, ...], size: int) -> Tensor:
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
