"""What a network makes of a set: how sure it is, how different the images, how near to real ones.

**Entropy.** "Prune, Combine, Augment" (https://github.com/he-y/rethink-dataset-compression) argues
with the mean prediction entropy of a pretrained EfficientNet-B0: pruned, easy images have the
lowest.

**Diversity.** The mean distance over all pairs inside a class, averaged over the classes that have
a pair: in the features of a network, or LPIPS (Zhang et al., CVPR 2018,
https://arxiv.org/abs/1801.03924) of another package. The closest pair tells of repeated images,
which a mean hides.

**KID** (Binkowski et al., "Demystifying MMD GANs", ICLR 2018, https://arxiv.org/abs/1801.01401),
the distance to real images in the features of an Inception network, is computed by torch-fidelity.
Unlike FID it is unbiased, so that small sets can be compared at all; with some tens of images its
spread over subsets still hides most differences, and is given beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.images import Images, contiguous, to_uint8

PAIRS = 200  # of a class that LPIPS compares at most, drawn by class
KID_SUBSETS = 100  # of torch-fidelity


def prediction_entropy(logits: Tensor) -> Tensor:
    """Entropy -sum_k p_k log p_k of the predictions p = softmax(logits), in nats.

    Args:
        logits: (N, C).

    Returns:
        (N,) float64 from 0 (sure) to log C (every class alike).
    """
    logs = logits.double().log_softmax(dim=1)
    return -torch.xlogy(logs.exp(), logs.exp()).sum(dim=1)


def agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of images, in [0, 1], whose largest logit (N, C) is at their label (N,)."""
    return float((logits.argmax(dim=1) == labels).double().mean())


@dataclass(frozen=True)
class Diversity:
    """How diverse the images of one set are.

    Attributes:
        mean: distance of a pair of one class, averaged over pairs and then over classes.
        closest: distance of a class's closest pair, averaged over classes.
        by_class: mean distance of a pair, by label.
    """

    mean: float
    closest: float
    by_class: dict[int, float]


def feature_diversity(features: Tensor, labels: Tensor) -> Diversity | None:
    """Euclidean distances between features (N, D) of images with the same label (N,).

    None where every class has a single image.
    """
    return _over_classes(labels, lambda rows: torch.pdist(features[rows].double()))


def lpips_diversity(
    images: Tensor, labels: Tensor, distance: Callable[[Tensor, Tensor], Tensor]
) -> Diversity | None:
    """LPIPS between images with the same label, of up to `PAIRS` pairs per class.

    Args:
        images: (N, 3, H, W) floats in [-1, 1], at least 64 px wide.
        labels: (N,).
        distance: (B, 3, H, W) images twice -> (B,) distances.
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
        raise InputError(f"the weights of LPIPS cannot be had: {error}.") from error
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


def require_fidelity() -> None:
    """Refuse a KID that could not be computed.

    Raises:
        InputError: torch-fidelity is not installed.
    """
    if find_spec("torch_fidelity") is None:
        raise InputError('KID needs torch-fidelity; install it with pip install ".[metrics]".')


def kernel_distance(
    images: Images,
    real: Images,
    *,
    device: torch.device,
    extractor: str = "inception-v3-compat",
) -> tuple[float, float]:
    """Mean and standard deviation of KID over subsets of 1000 images, or of all in smaller sets.

    Args:
        images: (N, 3, H, W) uint8, or floats in [-1, 1]; N is at least 2.
        real: (M, 3, H, W) likewise.
        device: to compute on.
        extractor: a feature extractor that torch-fidelity knows; its own Inception is downloaded
            once.

    Raises:
        InputError: torch-fidelity or its weights are not there.
    """
    require_fidelity()
    from torch_fidelity import calculate_metrics

    try:
        found = calculate_metrics(
            input1=_Levels(images),
            input2=_Levels(real),
            kid=True,
            kid_subsets=KID_SUBSETS,
            kid_subset_size=min(1000, len(images), len(real)),
            feature_extractor=extractor,
            cuda=device.type == "cuda",
            cache=False,
            save_cpu_ram=True,  # read here: its worker processes would be forked from torch
            verbose=False,
            rng_seed=0,
        )
    except OSError as error:
        raise InputError(f"the Inception weights of KID cannot be had: {error}.") from error
    return (
        float(found["kernel_inception_distance_mean"]),
        float(found["kernel_inception_distance_std"]),
    )


class _Levels(TorchDataset[Tensor]):
    """(3, H, W) uint8 images one by one, as torch-fidelity reads them."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        image = self._images[index : index + 1][0]
        return contiguous(to_uint8(image) if image.is_floating_point() else image)
