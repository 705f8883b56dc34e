"""What a network makes of a set: how sure it is, and how different the images are.

**Entropy.** "Prune, Combine, Augment" (https://github.com/he-y/rethink-dataset-compression) argues
with the mean prediction entropy of a pretrained EfficientNet-B0: pruned, easy images have the
lowest.

**Diversity.** The mean distance over all pairs inside a class, averaged over the classes that have
a pair: in the features of a network, or LPIPS (Zhang et al., CVPR 2018,
https://arxiv.org/abs/1801.03924) of another package. The closest pair tells of repeated images,
which a mean hides.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.images import contiguous

PAIRS = 200  # of a class that LPIPS compares at most, drawn by class


def prediction_entropy(logits: Tensor) -> Tensor:
    """(N,) entropy -sum_k p_k log p_k of the predictions p = softmax(logits (N, C)), in nats.

    From 0 (sure) to log C (every class alike).
    """
    logs = logits.double().log_softmax(dim=1)
    return -torch.xlogy(logs.exp(), logs.exp()).sum(dim=1)


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of images, in [0, 1], whose largest logit (N, C) is at their label (N,)."""
    return float((logits.argmax(dim=1) == labels).double().mean())


@dataclass(frozen=True)
class Diversity:
    """How diverse the images of one set are."""

    mean: float  # distance of a pair of one class, averaged over pairs and then over classes
    closest: float  # distance of a class's closest pair, averaged over classes
    by_class: dict[int, float]  # mean distance of a pair, by label


def feature_diversity(features: Tensor, labels: Tensor) -> Diversity | None:
    """Euclidean distances between features (N, D) of images with the same label (N,).

    None where every class has a single image.
    """
    return _over_classes(labels, lambda rows: torch.pdist(features[rows].double()))


def lpips_diversity(
    images: Tensor, labels: Tensor, distance: Callable[[Tensor, Tensor], Tensor]
) -> Diversity | None:
    """LPIPS between images with the same label, of up to `PAIRS` pairs per class.

    Images (N, 3, H, W) are floats in [-1, 1], at least 64 px wide.
    """

    def distances(rows: Tensor) -> Tensor:
        pairs = torch.combinations(rows)  # (P, 2)
        source = generator(0, "pairs of images", int(labels[rows[0]]))
        pairs = pairs[choose(len(pairs), PAIRS, source)]
        return torch.cat([distance(images[p[:, 0]], images[p[:, 1]]) for p in pairs.split(32)])

    return _over_classes(labels, distances)


def lpips_distance(device: torch.device | str) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS of the package `lpips`, on AlexNet, which it downloads once, for images on a device.

    Raises:
        InputError: the package or its weights are not there.
    """
    try:
        import lpips
    except ImportError as error:
        raise InputError('LPIPS needs lpips; install it with pip install ".[metrics]".') from error
    try:
        network = lpips.LPIPS(net="alex", verbose=False).to(device).eval().requires_grad_(False)
    except OSError as error:
        raise InputError(
            f"the weights of LPIPS cannot be had: {error}; put their file where the line above "
            "says, or leave out --lpips."
        ) from error
    return lambda one, other: network(contiguous(one), contiguous(other)).flatten()


def _over_classes(labels: Tensor, distances: Callable[[Tensor], Tensor]) -> Diversity | None:
    means, closest = dict[int, float](), []
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(1)
        if len(rows) > 1:
            found = distances(rows)
            means[int(label)] = float(found.mean())
            closest.append(float(found.min()))
    if not means:
        return None
    return Diversity(sum(means.values()) / len(means), sum(closest) / len(closest), means)
