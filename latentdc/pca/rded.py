"""RDED's images: the realistic crops of each class, tiled into mosaics or one by one.

Sun et al., https://arxiv.org/abs/2312.03526; `crops` selects.
"""

import sys
from collections.abc import Iterator, Sequence
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor, nn

from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.pca.crops import realistic_crops
from latentdc.pca.mosaics import arrange, mosaics
from latentdc.prune.scorers import least_accuracy
from latentdc.recipe import Rded


def rded_images(
    train: Dataset,
    teacher: nn.Module,
    spec: Rded,
    *,
    grid: int,
    ipc: int,
    mean: Sequence[float],
    seed: int,
    device: torch.device,
) -> tuple[Tensor, float]:
    """(C * ipc, 3, S, S) uint8, and the share of all crops that the teacher recognises.

    Args:
        train: whose images are cropped.
        teacher: (B, 3, H, W) images in [-1, 1] -> (B, C) logits.
        spec: pool, crops and what the teacher sees.
        grid: crops along a side of an image.
        ipc: images per class.
        mean: colour of the canvas, of images in [0, 1].
        seed: of the draws.
        device: of the teacher.

    Raises:
        InputError: a class has too few images.
    """
    size, known = train.resolution, []

    def pictures() -> Iterator[Image.Image]:
        for label in range(train.num_classes):
            crops = realistic_crops(
                train,
                label,
                teacher,
                count=grid**2 * ipc,
                cell=-(-size // grid),
                pool=spec.pool,
                crops=spec.crops,
                scale=spec.scale,
                mean=mean,
                canvas=spec.canvas,
                seed=seed,
                device=device,
            )
            known.append(crops.recognised)
            order = arrange(torch.arange(len(crops.rows)), grid, "stride", generator(0))
            yield from (_picture(crops.images[index]) for index in order.flatten().tolist())

    images = mosaics(pictures(), grid, size, "squash")
    return images, fmean(known)


def note_blindness(recognised: float, classes: int) -> None:
    """Say that a teacher that does not recognise what it judges chooses no better than chance."""
    chance, least = least_accuracy([1] * classes)
    if recognised < least:
        print(
            f"latentdc: note: the teacher names {recognised:.1%} of RDED's crops rightly (chance "
            f"{chance:.1%}), so its choice says nothing; rded.canvas=false shows it crops "
            "enlarged, rded.mosaic=false keeps single crops at full size.",
            file=sys.stderr,
        )


def _picture(levels: Tensor) -> Image.Image:
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
