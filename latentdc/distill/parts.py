"""The parts of a run as its recipe describes them."""

import torch

from latentdc.data.dataset import Dataset
from latentdc.images import Normalization
from latentdc.objectives.base import Objective
from latentdc.objectives.build import build_objective
from latentdc.priors.base import Prior
from latentdc.priors.loading import load_prior
from latentdc.recipe import Recipe


def build_prior(recipe: Recipe, device: torch.device | str) -> Prior:
    """The space to optimise in; on `meta`, its outline without weights.

    Raises:
        InputError: weights missing or of an unknown kind.
    """
    spec = recipe.prior
    return load_prior(
        spec.kind,
        spec.weights,
        resolution=recipe.data.resolution,
        revision=spec.revision,
        steps=spec.steps,
        guidance=spec.guidance,
        skip=spec.skip,
        clamp=spec.clamp,
        memory=spec.memory,
        chunk=spec.chunk,
        device=device,
    )


def recipe_objective(recipe: Recipe, train: Dataset) -> Objective:
    """What to match, under the recipe's normalisation."""
    spec = recipe.objective
    return build_objective(
        spec.kind,
        network=spec.network,
        distance=spec.distance,
        augmentation=spec.augment,
        num_classes=train.num_classes,
        resolution=recipe.data.resolution,
        normalization=Normalization(recipe.data.mean, recipe.data.std),
        seed=recipe.seed,
    )
