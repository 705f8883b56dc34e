"""Vector quantisation of latents (van den Oord et al., https://arxiv.org/abs/1711.00937)."""

import torch
from torch import Tensor

ROWS = 4096  # positions that are compared with the codebook at once


@torch.no_grad()
def nearest_codes(z: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code at each position.

    Distances are those of float32 under autocast too, where torch runs cdist in it.

    Args:
        z: (B, C, h, w) latents.
        codebook: (K, C) codes.

    Returns:
        (B, h, w) indices below K.
    """
    rows = z.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1])
    codes = codebook.to(rows.dtype)
    found = [torch.cdist(some, codes).argmin(dim=1) for some in rows.split(ROWS)]
    return torch.cat(found).view(len(z), *z.shape[2:])


def straight_through(z: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """(B, C, h, w) codes in place of z, with z's gradient unchanged.

    Args:
        z: (B, C, h, w) latents.
        codes: (B, h, w) indices.
        codebook: (K, C) codes.
    """
    quantised = codebook[codes].permute(0, 3, 1, 2).to(z.dtype)
    return z + (quantised - z).detach()
