"""Anchors: what is kept of the real latents of a class, to start sampling from or to pull it to.

Cluster centres: Su et al., "D4M: Dataset Distillation via Disentangled Diffusion Model", CVPR 2024,
https://arxiv.org/abs/2407.15138; their masses as weights: Tan and Slade, "Dataset Distillation as
Pushforward Optimal Quantization" (DDOQ), ICLR 2026, https://arxiv.org/abs/2501.07681. Moments of
inverted latents: Zhao et al., "Taming Diffusion for Dataset Distillation with High
Representativeness" (D3HR), ICML 2025, https://arxiv.org/abs/2505.18399; they are inverted here to
the step that sampling starts at, where the released code starts a step before. All draws are keyed
by the class's name, and images come in the order of their hashes, so that neither the order of the
classes nor that of the images matters.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from latentdc.clusters import k_means
from latentdc.data.dataset import Dataset
from latentdc.images import as_floats

AT_ONCE = 16  # images that are encoded or inverted together


def class_rows(real: Dataset, label: int) -> Tensor:
    """(n,) rows of the different images of a class, in the order of their hashes."""
    rows = real.different(label)
    return rows[real.hashes[rows].argsort(stable=True)]


def encoded(
    real: Dataset, rows: Tensor, encode: Callable[[Tensor], Tensor], device: torch.device
) -> Tensor:
    """(n, C, h, w) latents of images, on the CPU."""
    parts = [encode(as_floats(real.images[some].to(device))) for some in rows.split(AT_ONCE)]
    return torch.cat([part.float().cpu() for part in parts])


def clustered(
    latents: Tensor, count: int, seed: int, name: str, *, medoids: bool = False
) -> tuple[Tensor, Tensor]:
    """(count, C, h, w) centres of clusters, and (count,) shares of the latents in each.

    Args:
        latents: (n, C, h, w) of one class, at least `count`.
        count: of clusters.
        seed: of the draws.
        name: of the class.
        medoids: take the latent nearest to each centre in its place.
    """
    points = latents.flatten(1)
    centres, members = k_means(points, count, seed, name)
    masses = members.bincount(minlength=count).clamp_min(1).float()
    if medoids:
        centres = points[torch.cdist(centres, points).argmin(dim=1)]
    return centres.view(count, *latents.shape[1:]), masses / masses.sum()


def moments(
    latents: Tensor, invert: Callable[[Tensor], Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(C, h, w) mean and standard deviation of a class's latents after they were inverted."""
    noisy = [invert(some.to(device)).cpu() for some in latents.split(AT_ONCE)]
    std, mean = torch.std_mean(torch.cat(noisy), dim=0, correction=0)
    return mean, std
