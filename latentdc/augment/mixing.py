"""CutMix and mixup, with targets that are mixed by the share of each image.

Yun et al., "CutMix", ICCV 2019, https://arxiv.org/abs/1905.04899; Zhang et al., "mixup", ICLR 2018,
https://arxiv.org/abs/1710.09412. Two things differ from the code of the evaluation protocols: each
image has its own share, box and partner (they draw one share and box for a batch and take the
partner from it), so that a view follows from image and epoch alone, whatever the batch; and hard
targets are mixed as well, which that code leaves out.
"""

import torch
from torch import Generator, Tensor

from latentdc.draws import global_draws


def draw_shares(count: int, alpha: float, seed: int, epoch: int) -> Tensor:
    """(N,) share that each image keeps, from Beta(alpha, alpha)."""
    with global_draws(seed, "views", "share", epoch):  # torch's Beta knows no generator
        return torch.distributions.Beta(alpha, alpha).sample((count,))


def draw_cuts(shares: Tensor, size: int, source: Generator) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) of about 1 - share of the area, and the share (N,) that they leave.

    A box is top, bottom, left, right; its centre is anywhere on the image, which cuts it off.
    """
    half = ((1 - shares).sqrt() * size).long() // 2
    centre = torch.randint(size, (len(shares), 2), generator=source)
    low, high = (centre - half[:, None]).clamp(min=0), (centre + half[:, None]).clamp(max=size)
    kept = 1 - (high - low).prod(dim=1) / size**2
    return torch.stack([low, high], dim=2).flatten(1).float(), kept


def cutmix(images: Tensor, partners: Tensor, boxes: Tensor) -> Tensor:
    """The images with `boxes` (B, 4) of their partners."""
    place = torch.arange(images.shape[-1], device=images.device)
    low, high = boxes[:, 0::2, None], boxes[:, 1::2, None]
    inside = (place >= low) & (place < high)  # (B, 2, S)
    return torch.where((inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], partners, images)


def mixup(images: Tensor, partners: Tensor, kept: Tensor) -> Tensor:
    """Kept x image + (1 - kept) x partner, with `kept` (B,)."""
    return torch.lerp(partners, images, kept[:, None, None, None])


def mix_targets(own: Tensor, partners: Tensor, kept: Tensor) -> Tensor:
    """Probabilities (B, C): kept x own + (1 - kept) x the partner's."""
    return torch.lerp(partners, own, kept[:, None])
