"""Gradient matching (DC): synthetic images should give a student the gradients that real ones give.

Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021,
https://arxiv.org/abs/2006.05929, Alg. 1, with Eq. 10 for the distance. Classes meet one by one:
gradients of several classes by one `torch.func.vmap` were measured and are slower on a CPU. The
real gradient is that of the mean loss of the whole batch (LD3M's code averages two half batches).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cosine_similarity, cross_entropy

from latentdc.errors import InputError
from latentdc.objectives.base import at_once

Distance = Literal["rowwise", "cosine", "mse"]
_ROWS = (2, 4)  # dimensions of the weights that have rows: of linear layers and convolutions


def match_gradients(
    student: nn.Module,
    real: Iterable[Tensor],
    synthetic: Sequence[Tensor],
    labels: Sequence[int],
    *,
    distance: Distance = "rowwise",
) -> Tensor:
    """`gradient_matching` summed over classes, one entry of each argument per class."""
    losses = [
        gradient_matching(student, real_part, synthetic_part, label, distance=distance)
        for real_part, synthetic_part, label in zip(real, synthetic, labels, strict=True)
    ]
    return torch.stack(losses).sum()


def gradient_matching(
    student: nn.Module,
    real: Tensor,
    synthetic: Tensor,
    label: int,
    *,
    distance: Distance = "rowwise",
) -> Tensor:
    """Distance between the student's loss gradients on real and on synthetic images of one class.

    Args:
        student: randomly initialised, (B, C, H, W) -> (B, classes).
        real: (N, C, H, W) real images of the class, normalised and augmented.
        synthetic: (ipc, C, H, W) synthetic images of the class, treated alike.
        label: of the class.
        distance: a key of DISTANCES.

    Returns:
        () loss, zero when the gradients agree. Gradients flow to `synthetic` alone.
    """
    learned = [p for p in student.parameters() if p.requires_grad]
    weights = [p for p in learned if distance != "rowwise" or p.ndim in _ROWS]
    if not weights:
        raise InputError(
            f"distance {distance!r} compares linear layers and 2-d convolutions, of which "
            f"{type(student).__name__} has none that learns; take cosine or mse."
        )
    with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
        targets = real_gradient(student, weights, real, label)
        gradients = class_gradient(student, weights, synthetic, label)
    return DISTANCES[distance](gradients, targets)


def class_gradient(
    student: nn.Module, weights: Sequence[Tensor], images: Tensor, label: int
) -> tuple[Tensor, ...]:
    """Gradient of the mean loss of (N, C, H, W) images at `weights`, with a graph to the images."""
    loss = _summed_loss(student, images, label) / len(images)
    return torch.autograd.grad(loss, weights, create_graph=True)


def real_gradient(
    student: nn.Module, weights: Sequence[Tensor], images: Tensor, label: int
) -> list[Tensor]:
    """Gradient of the mean loss of (N, C, H, W) images at `weights`, without a graph.

    Images are taken some at a time, so that memory does not grow with their number.
    """
    total = [torch.zeros_like(weight) for weight in weights]
    for part in images.split(at_once(images)):
        loss = _summed_loss(student, part, label) / len(images)
        for whole, share in zip(total, torch.autograd.grad(loss, weights), strict=True):
            whole += share
    return total


def _summed_loss(student: nn.Module, images: Tensor, label: int) -> Tensor:
    labels = torch.full((len(images),), label, device=images.device)
    return cross_entropy(student(images), labels, reduction="sum")


def rowwise_cosine(synthetic: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Sum over layers and output units of 1 - cosine; biases and norms are left out (Eq. 10)."""
    total = synthetic[0].new_zeros(())
    for a, b in zip(synthetic, real, strict=True):
        if a.ndim in _ROWS:
            a, b = a.flatten(1), b.flatten(1)  # (out, in * height * width)
            norms = a.norm(dim=1) * b.norm(dim=1)
            total = total + (1 - (a * b).sum(dim=1) / (norms + 1e-6)).sum()
    return total


def whole_cosine(synthetic: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """1 - cosine between all gradients as one vector."""
    a, b = (torch.cat([g.flatten() for g in side]) for side in (synthetic, real))
    return 1 - cosine_similarity(a, b, dim=0, eps=1e-6)


def squared_error(synthetic: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Sum of squared differences over all gradients."""
    return torch.stack([(a - b).square().sum() for a, b in zip(synthetic, real, strict=True)]).sum()


DISTANCES: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "rowwise": rowwise_cosine,
    "cosine": whole_cosine,
    "mse": squared_error,
}
