"""Gradient matching (DC): synthetic images should give a student the gradients that real ones give.

Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021,
https://arxiv.org/abs/2006.05929, Eq. 10 for the distance. Here the student is drawn anew at each
step (one outer, one inner step), which is how LD3M runs it; this form is separable by class. The
real gradient is that of the mean loss of the whole batch (LD3M's code averages two half batches).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

Distance = Literal["rowwise", "cosine", "mse"]


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
    weights = [p for p in student.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(_class_loss(student, real, label), weights)
    given = torch.autograd.grad(_class_loss(student, synthetic, label), weights, create_graph=True)
    return DISTANCES[distance](given, wanted)


def _class_loss(student: nn.Module, images: Tensor, label: int) -> Tensor:
    labels = torch.full((len(images),), label, device=images.device)
    return cross_entropy(student(images), labels)


def rowwise_cosine(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Sum over layers and output units of 1 - cosine; biases and norms are left out (Eq. 10)."""
    total = given[0].new_zeros(())
    for a, b in zip(given, wanted, strict=True):
        if a.ndim in (2, 4):
            a, b = a.flatten(1), b.flatten(1)  # (out, in * height * width)
            norms = a.norm(dim=1) * b.norm(dim=1)
            total = total + (1 - (a * b).sum(dim=1) / (norms + 1e-6)).sum()
    return total


def whole_cosine(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """1 - cosine between all gradients as one vector."""
    a, b = (torch.cat([g.flatten() for g in side]) for side in (given, wanted))
    return 1 - cosine_similarity(a, b, dim=0, eps=1e-6)


def squared_error(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Sum of squared differences over all gradients."""
    return torch.stack([(a - b).square().sum() for a, b in zip(given, wanted, strict=True)]).sum()


DISTANCES: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "rowwise": rowwise_cosine,
    "cosine": whole_cosine,
    "mse": squared_error,
}
