"""Distribution matching (DM): pull the mean feature of a synthetic class to that of the real one.

Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023,
https://arxiv.org/abs/2110.04181, Eq. 5. Unlike the paper's, synthetic images may be decoded from
latents.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def distribution_matching(
    features: Callable[[Tensor], Tensor], real: Tensor, synthetic: Tensor
) -> Tensor:
    """Squared distance between the mean real and the mean synthetic feature of one class.

    Args:
        features: a randomly initialised student without its head, (B, C, H, W) -> (B, D).
        real: (N, C, H, W) real images of the class, normalised and augmented.
        synthetic: (ipc, C, H, W) synthetic images of the class, treated alike.

    Returns:
        () loss, zero when the means coincide. Gradients flow to `synthetic` alone.
    """
    with torch.no_grad():
        target = features(real).mean(dim=0)  # (D,)
    return (features(synthetic).mean(dim=0) - target).square().sum()
