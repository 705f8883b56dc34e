"""Objectives by name."""

from functools import partial
from typing import Literal

from latentdc.arguments import require_able, require_whole
from latentdc.autograd import with_gradients
from latentdc.errors import InputError
from latentdc.images import Normalization, Preprocessing
from latentdc.objectives.base import Objective
from latentdc.objectives.classwise import Classwise, Match
from latentdc.objectives.distribution import match_distributions
from latentdc.objectives.effects import Effects, distribution_effects, gradient_effects
from latentdc.objectives.gradient import Distance, match_gradients
from latentdc.objectives.students import Students
from latentdc.objectives.trajectory import Experts, TrajectoryMatching
from latentdc.recipe import Loops, ObjectiveSpec, Recipe, Trajectory


@with_gradients
def build_objective(
    kind: Literal["dm", "dc", "mtt"],
    *,
    num_classes: int,
    resolution: int,
    network: str = "convnet3",
    distance: Distance = "rowwise",
    loops: Loops | None = None,
    augmentation: str | None = "color_crop_cutout_flip_scale_rotate",
    normalization: Preprocessing | None = None,
    experts: Experts | None = None,
    trajectory: Trajectory | None = None,
    seed: int = 0,
) -> Objective:
    """Distribution matching (`dm`), gradient matching (`dc`) or trajectory matching (`mtt`).

    Args:
        kind: of objective.
        num_classes: of the data set.
        resolution: of its images, in pixels.
        network: randomly initialised student.
        distance: of `dc`, between gradients.
        loops: of `dc`, how long a student lives, with both its numbers; None draws one per step.
        augmentation: DSA strategy for real and synthetic images alike, or None.
        normalization: of real and synthetic images alike; None takes ImageNet's.
        experts: of `mtt`, of the same network.
        trajectory: of `mtt`; None takes the defaults.
        seed: of all draws.

    Raises:
        InputError: what a recipe is refused for, and `mtt` without experts.
    """
    spec = ObjectiveSpec(
        kind=kind,
        network=network,
        augment=augmentation,
        distance=distance,
        loops=loops or Loops(outer=1, inner=1),
        trajectory=trajectory or Trajectory(),
    )
    Recipe(seed=seed)
    num_classes = require_whole(num_classes, "num_classes")
    resolution = require_whole(resolution, "resolution")
    if normalization is not None:
        require_able("__call__ facts", normalization, "normalization", "a Normalization")
    if kind == "dc" and (spec.loops.outer is None or spec.loops.inner is None):
        raise InputError(
            "loops of build_objective have both numbers, such as Loops(outer=1, inner=1), or "
            f"Loops().resolve(ipc) for DC's own; got outer={spec.loops.outer} and "
            f"inner={spec.loops.inner}."
        )
    if kind == "mtt":
        if experts is None:
            raise InputError(
                "mtt follows experts; pass some, such as those of latentdc.experts.files."
                "open_experts(recipe)."
            )
        return TrajectoryMatching(
            experts,
            trajectory or Trajectory(),
            network=network,
            num_classes=num_classes,
            resolution=resolution,
            normalization=normalization or Normalization(),
            augmentation=augmentation,
            seed=seed,
        )
    matches: dict[str, Match] = {
        "dm": match_distributions,
        "dc": partial(match_gradients, distance=distance),
    }
    effects: dict[str, Effects] = {
        "dm": distribution_effects,
        "dc": partial(gradient_effects, distance=distance),
    }
    students = Students(
        network,
        num_classes=num_classes,
        resolution=resolution,
        normalization=normalization or Normalization(),
        augmentation=augmentation,
        loops=loops if loops is not None and kind == "dc" else Loops(outer=1, inner=1),
        seed=seed,
    )
    return Classwise(
        matches[kind],
        effects[kind],
        students,
        normalization=normalization or Normalization(),
        augmentation=augmentation,
        seed=seed,
    )
