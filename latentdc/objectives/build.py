"""Objectives by name."""

from functools import partial
from typing import Literal

from latentdc.images import Normalization
from latentdc.objectives.base import Objective
from latentdc.objectives.classwise import Classwise, Match, match_distributions
from latentdc.objectives.gradient import Distance, gradient_matching


def build_objective(
    kind: Literal["dm", "dc"],
    *,
    num_classes: int,
    resolution: int,
    network: str = "convnet3",
    distance: Distance = "rowwise",
    augmentation: str | None = "color_crop_cutout_flip_scale_rotate",
    normalization: Normalization | None = None,
    seed: int = 0,
) -> Objective:
    """Distribution matching (`dm`) or gradient matching (`dc`).

    Args:
        kind: of objective.
        num_classes: of the data set.
        resolution: of its images, in pixels.
        network: randomly initialised student, drawn anew at each step.
        distance: of `dc`, between gradients.
        augmentation: DSA strategy for real and synthetic images alike, or None.
        normalization: of real and synthetic images alike; None takes ImageNet's.
        seed: of all draws.
    """
    matches: dict[str, Match] = {
        "dm": match_distributions,
        "dc": partial(gradient_matching, distance=distance),
    }
    return Classwise(
        matches[kind],
        network=network,
        num_classes=num_classes,
        resolution=resolution,
        normalization=normalization or Normalization(),
        augmentation=augmentation,
        seed=seed,
    )
