"""Mosaics: whole images of the core set, scaled into the cells of fewer images.

The second step of PCA (Xiao et al., "Unifying Dataset Pruning and Distillation",
https://arxiv.org/abs/2502.06434): pruned images are tiled complete, because cropping can lower the
loss of an image without lowering the entropy of its prediction. No code was released. How an image
becomes square and in which order the images meet are choices made here (docs/methods.md). The third
step, crops inside one cell, is the protocol's (`views.cells`).
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Generator, Tensor

from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.methods.context import Context, Picture, check_call
from latentdc.methods.selection import best_rows
from latentdc.modes import in_plain_modes
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Mosaic
from latentdc.synthetic.synthetic_set import SyntheticSet

GREY = (124, 116, 104)  # ImageNet's mean colour
Fit = Literal["squash", "pad", "center"]


@in_plain_modes
def mosaic(
    coreset: Coreset, prior: Prior | None, settings: Mosaic, context: Context
) -> SyntheticSet:
    """Mosaics of the best n^2 `context.ipc` images of each class of the core set.

    Raises:
        InputError: a class of the core set has fewer.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> context = latentdc.Context(ipc=1, train=train)
        >>> latentdc.mosaic(coreset, None, latentdc.Mosaic(grid=2), context)
        SyntheticSet(10 images of 8 px, uint8, 10 classes: '0', '1', '2', ...; with grid)
    """
    check_call(coreset, settings, Mosaic, context)
    train, grid = context.real_images(), settings.grid
    best = best_rows(coreset, train, grid**2 * context.ipc)
    cells = []
    for label, ranks in enumerate(best):
        source = generator(context.seed, "mosaic order", label)
        cells.append(arrange(ranks, grid, settings.order, source))
    picture = context.picture
    if picture is None or settings.fit == "center":
        picture = decoded_pictures(train)
    pictures = map(picture, torch.cat(cells).flatten().tolist())
    images = mosaics(pictures, grid, train.resolution, settings.fit)
    labels = torch.arange(train.num_classes).repeat_interleave(context.ipc)
    return SyntheticSet(images, labels, train.class_names, grid=grid)


def decoded_pictures(train: Dataset) -> Picture:
    """Training images as they were decoded: square, of `data.resolution`."""

    def picture(row: int) -> Image.Image:
        return as_picture(train.images[row : row + 1][0])

    return picture


def as_picture(levels: Tensor) -> Image.Image:
    """One image (3, H, W) uint8 as Pillow's."""
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def arrange(
    ranked: Tensor, grid: int, order: Literal["stride", "rank", "random"], source: Generator
) -> Tensor:
    """(ipc, grid^2) images of each mosaic of a class, cell by cell, rows of the grid first.

    `ranked` are (ipc * grid^2,) images, the ones to prefer first. The order `stride` gives mosaic i
    the ranks i, ipc + i, 2 ipc + i, ..., as RDED does; `source` is of the order `random`.
    """
    cells = grid**2
    if order == "stride":
        return ranked.view(cells, -1).T
    if order == "random":
        ranked = ranked[torch.randperm(len(ranked), generator=source)]
    return ranked.view(-1, cells)


def mosaics(pictures: Iterable[Image.Image], grid: int, size: int, fit: Fit) -> Tensor:
    """(N, 3, size, size) uint8: every grid^2 RGB pictures become one image.

    Cells begin at the pixels i * size // grid, where `latentdc.augment.geometry` cuts them.
    """
    edges = [index * size // grid for index in range(grid + 1)]
    boxes = [
        (left, top, right, bottom)
        for top, bottom in pairwise(edges)
        for left, right in pairwise(edges)
    ]
    made = []
    for group in zip(*[iter(pictures)] * grid**2, strict=True):
        canvas = Image.new("RGB", (size, size))
        for picture, (left, top, right, bottom) in zip(group, boxes, strict=True):
            canvas.paste(shaped(picture, (right - left, bottom - top), fit), (left, top))
        made.append(torch.from_numpy(np.array(canvas)).permute(2, 0, 1))
    return torch.stack(made).contiguous()


def shaped(picture: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """The picture at (width, height), antialiased."""
    bilinear = Image.Resampling.BILINEAR
    if picture.size == size:
        return picture
    if fit == "pad":
        return ImageOps.pad(picture, size, method=bilinear, color=GREY)
    if fit == "center":
        return ImageOps.fit(picture, size, method=bilinear)
    return picture.resize(size, bilinear)
