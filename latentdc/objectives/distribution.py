"""Distribution matching (DM): pull the mean feature of a synthetic class to that of the real one.

Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
https://arxiv.org/abs/2110.04181, Eq. 5. Unlike the paper's, synthetic images may be decoded from
latents; and a student with batch norm uses fixed statistics of real images of all classes, where
the released code takes those of the joint batch, of real and of synthetic images apart.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from latentdc.networks.base import Network
from latentdc.objectives.base import at_once, packs

FeatureMap = Callable[[Tensor], Tensor]
"""A randomly initialised student without its head, (B, C, H, W) -> (B, D)."""


def match_distributions(
    student: Network, real: Iterable[Tensor], synthetic: Sequence[Tensor], labels: Sequence[int]
) -> Tensor:
    """`distribution_matching` in the student's feature space, in float32 under autocast too."""
    return distribution_matching(lambda images: student.features(images).float(), real, synthetic)


def distribution_matching(
    features: FeatureMap, real: Iterable[Tensor], synthetic: Sequence[Tensor]
) -> Tensor:
    """Squared distance between mean real and mean synthetic features, summed over classes (Eq. 5).

    Args:
        features: of images.
        real: for each class (N, C, H, W) real images, normalised and augmented; seen without
            gradient, some at a time.
        synthetic: for each class (ipc, C, H, W) synthetic images, treated alike; seen together.

    Returns:
        () loss, zero when the means coincide. Gradients flow to `synthetic` alone.
    """
    limit = at_once(synthetic[0])
    with torch.no_grad():
        targets = [mean for pack in packs(real, limit) for mean in _means(features, pack, limit)]
    means = _means(features, synthetic, sum(map(len, synthetic)))
    return (torch.stack(means) - torch.stack(targets)).square().sum()


def _means(features: FeatureMap, classes: Sequence[Tensor], limit: int) -> list[Tensor]:
    """(D,) mean feature of each class; the network is given `limit` images at once."""
    embedded = torch.cat([features(images) for images in torch.cat(list(classes)).split(limit)])
    return [part.mean(dim=0) for part in embedded.split([len(images) for images in classes])]
