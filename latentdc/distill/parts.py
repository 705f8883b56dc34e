"""The parts of a run as its recipe describes them."""

from collections.abc import Sequence

import torch

from latentdc.data.dataset import Dataset
from latentdc.experts.files import open_experts
from latentdc.images import Preprocessing
from latentdc.objectives.base import Objective
from latentdc.objectives.build import build_objective
from latentdc.priors.base import Prior
from latentdc.priors.loading import load_prior
from latentdc.priors.precision import Precision
from latentdc.priors.prompts import class_prompts
from latentdc.priors.vector import VectorPrior
from latentdc.recipe import PriorSpec, Recipe
from latentdc.standardization import Standardization
from latentdc.whitening import Whitening


def build_prior(
    recipe: Recipe,
    device: torch.device | str,
    *,
    class_names: Sequence[str] | None = None,
    normalization: Preprocessing | None = None,
    precision: Precision = "no",
) -> Prior:
    """The space to optimise in.

    Args:
        recipe: its prior and resolution.
        device: of the weights; on `meta` there are none.
        class_names: of the data set, which a text-conditional prior starts from.
        normalization: what networks see of images; if it whitens, pixels are whitened ones. The
            space of vectors is what they see of these.
        precision: of the networks.

    Raises:
        InputError: weights missing or of an unknown kind.
    """
    spec = recipe.prior
    if spec.kind == "vector":
        assert isinstance(normalization, Standardization)
        return VectorPrior(normalization)
    return load_prior(
        spec.kind,
        spec.weights,
        resolution=recipe.data.resolution,
        revision=spec.revision,
        steps=spec.steps,
        guidance=spec.guidance,
        prompts=None if class_names is None else _prompts(spec, class_names),
        autoencoder=spec.autoencoder,
        random_denoiser=recipe.seed if spec.denoiser == "random" else None,
        skip=spec.skip,
        clamp=spec.clamp,
        whitening=normalization if isinstance(normalization, Whitening) else None,
        memory=spec.memory,
        chunk=spec.chunk,
        truncate=spec.truncate,
        precision=precision,
        channels_last=spec.channels_last,
        compile=spec.compile,
        device=device,
    )


def _prompts(spec: PriorSpec, class_names: Sequence[str]) -> dict[str, str]:
    return class_prompts(class_names, spec.prompt, spec.names)


def recipe_objective(recipe: Recipe, train: Dataset, normalization: Preprocessing) -> Objective:
    """What to match.

    Raises:
        InputError: experts that are missing or were made otherwise.
    """
    spec = recipe.objective
    return build_objective(
        spec.kind,
        network=spec.network,
        distance=spec.distance,
        loops=spec.loops,
        augmentation=spec.augment,
        num_classes=train.num_classes,
        resolution=train.resolution,
        normalization=normalization,
        experts=open_experts(recipe) if spec.kind == "mtt" else None,
        trajectory=spec.trajectory,
        seed=recipe.seed,
    )
