"""Objectives that are a sum over classes, each met by its real images under one new student."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from latentdc import draws
from latentdc.images import Normalization
from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.objectives.augment import augment, draw_augmentation
from latentdc.objectives.base import RealBatch
from latentdc.objectives.distribution import distribution_matching

Match = Callable[[Network, Tensor, Tensor, int], Tensor]
"""(student, real, synthetic, label) -> () loss of one class."""


def match_distributions(student: Network, real: Tensor, synthetic: Tensor, label: int) -> Tensor:
    """Distribution matching in the student's feature space, in float32 under autocast too."""
    return distribution_matching(lambda x: student.features(x).float(), real, synthetic)


class Classwise:
    """A new random student per step; per class one real batch and one augmentation, for both sides.

    Args:
        match: loss of one class.
        network: name of the student.
        num_classes: of the data set.
        resolution: of the images, in pixels.
        normalization: of real and synthetic images alike.
        augmentation: DSA strategy, or None.
        seed: of all draws.
    """

    scope: Literal["class"] = "class"

    def __init__(
        self,
        match: Match,
        *,
        network: str,
        num_classes: int,
        resolution: int,
        normalization: Normalization,
        augmentation: str | None,
        seed: int,
    ) -> None:
        self.match = match
        self.normalization = normalization
        self.augmentation = augmentation
        self.seed = seed
        self.new_student = partial(
            new_network, network, num_classes=num_classes, resolution=resolution, seed=seed
        )

    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """See `Objective.accumulate`."""
        student = self.new_student(step).to(synthetic.device)
        total = torch.zeros((), device=synthetic.device)
        classes, counts = labels.unique_consecutive(return_counts=True)
        parts = synthetic.split(counts.tolist())
        for label, images in zip(classes.tolist(), parts, strict=True):
            source = draws.generator(self.seed, "augment", step, label)
            draw = draw_augmentation(self.augmentation, source)
            genuine = augment(self.normalization(real(step, label)), draw)
            made = augment(self.normalization(images), draw)
            loss = self.match(student, genuine, made, label)
            loss.backward(inputs=[synthetic])
            total += loss.detach()
        return total
