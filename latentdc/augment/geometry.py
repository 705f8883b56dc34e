"""Where the pixels of a view come from: crops, shifts, shuffled strips, mirror images.

Every function takes a batch and one row of parameters per image, so that each image has its own;
`torchvision.transforms.v2` draws one set of parameters for a whole batch.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

_TRIES = 10  # of a random crop, as in torchvision's RandomResizedCrop
_ASPECT = (3 / 4, 4 / 3)
_BLACK = -1.0  # of images in [-1, 1]


def draw_boxes(
    count: int, size: int, scale: tuple[float, float], cells: int | None, source: Generator
) -> Tensor:
    """Boxes (N, 4) of a random crop, in pixels: top, left, height, width.

    As torchvision's RandomResizedCrop: a share of the area, within `scale`, and an aspect, drawn
    until the box fits into the square image (or into one of its cells x cells parts); if none does,
    all of it.
    """
    side = size // (cells or 1)
    share = scale[0] + (scale[1] - scale[0]) * torch.rand(count, _TRIES, generator=source)
    low, high = map(math.log, _ASPECT)
    aspect = (low + (high - low) * torch.rand(count, _TRIES, generator=source)).exp()
    lengths = torch.stack([(share / aspect).sqrt(), (share * aspect).sqrt()], dim=2) * side
    lengths = lengths.round()  # (N, _TRIES, 2): height, width
    fits = ((lengths > 0) & (lengths <= side)).all(dim=2)
    first = fits.int().argmax(dim=1)  # 0 where none fits
    chosen = lengths[torch.arange(count), first]
    chosen = torch.where(fits.any(dim=1, keepdim=True), chosen, float(side))
    corner = (torch.rand(count, 2, generator=source) * (side - chosen + 1)).floor()
    corner = corner.minimum(side - chosen)
    if cells is not None:
        corner += torch.randint(cells, (count, 2), generator=source) * size // cells
    return torch.cat([corner, chosen], dim=1)


def crop_resize(images: Tensor, boxes: Tensor) -> Tensor:
    """Cut `boxes` (B, 4) out of square images and enlarge them to their size, bilinearly."""
    size = images.shape[-1]
    y = _positions(boxes[:, 0], boxes[:, 2], size)
    x = _positions(boxes[:, 1], boxes[:, 3], size)
    grid = torch.stack(
        [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=3
    )
    return F.grid_sample(images, grid * 2 / (size - 1) - 1, align_corners=True)


def central_part(images: Tensor, share: float) -> Tensor:
    """The middle of square images, `share` of each side, enlarged to their size."""
    if share == 1:
        return images
    size = images.shape[-1]
    box = torch.tensor([(1 - share) / 2, (1 - share) / 2, share, share], device=images.device)
    return crop_resize(images, (box * size).expand(len(images), 4))


def _positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size) pixel positions whose centres divide the box evenly, none outside of it."""
    places = (torch.arange(size, device=start.device) + 0.5) / size * length[:, None] - 0.5
    return start[:, None] + places.clamp(min=0).minimum(length[:, None] - 1)


def shift(images: Tensor, offsets: Tensor, reflect: bool = False) -> Tensor:
    """Windows of the images' size, moved by `offsets` (B, 2) pixels.

    Where they leave the image they are black, or see its reflection about the outermost pixels.
    """
    size = images.shape[-1]
    place = torch.arange(size, device=images.device) + offsets.long()[:, :, None]  # (B, 2, S)
    if reflect:
        place = (size - 1) - ((size - 1) - place.abs()).abs()
        return pick(images, place[:, 0], place[:, 1])
    inside = (place >= 0) & (place < size)
    moved = pick(images, place[:, 0].clamp(0, size - 1), place[:, 1].clamp(0, size - 1))
    return moved.masked_fill(~(inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], _BLACK)


def shuffle_strips(images: Tensor, orders: Tensor) -> Tensor:
    """Put strips into another order: `orders` (B, 2, n) of n rows of pixels and of n columns.

    RDED (https://arxiv.org/abs/2312.03526) shuffles patches so: columns of patches, then rows.
    Pixels that n does not divide stay at the end.
    """
    size, strips = images.shape[-1], orders.shape[2]
    width = size // strips
    within = torch.arange(width, device=images.device)
    places = (orders.long()[:, :, :, None] * width + within).flatten(2)  # (B, 2, strips * width)
    rest = torch.arange(strips * width, size, device=images.device).expand(len(images), 2, -1)
    places = torch.cat([places, rest], dim=2)
    return pick(images, places[:, 0], places[:, 1])


def mirror(images: Tensor, flips: Tensor) -> Tensor:
    """Left and right exchanged where `flips` (B,) is true."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels at `rows` (B, H) and `columns` (B, W) of each image."""
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
