"""The parts of a run as its recipe describes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits, preprocessing
from latentdc.distill.classes import check_classes_per_step
from latentdc.experts.buffers import ReplayBuffers
from latentdc.experts.files import ExpertFiles, open_experts
from latentdc.images import Preprocessing
from latentdc.objectives.base import Objective
from latentdc.objectives.build import build_objective
from latentdc.priors.base import Prior
from latentdc.priors.load import load_prior
from latentdc.priors.precision import Precision
from latentdc.recipe import Recipe


@dataclass(frozen=True)
class Parts:
    """What a run has before it has scored or trained anything.

    Attributes:
        train: real images, all of them.
        test: to evaluate on.
        normalization: what networks see of images.
        prior: the space to optimise in.
        objective: what to match.
        experts: that trajectory matching follows; None for other objectives.
    """

    train: Dataset
    test: Dataset
    normalization: Preprocessing
    prior: Prior
    objective: Objective
    experts: ExpertFiles | ReplayBuffers | None


def open_parts(recipe: Recipe, accelerator: Accelerator) -> Parts:
    """Read the data and the weights; the main process first, so that each file is made once.

    Raises:
        InputError: what only the data, the weights or the number of processes show to be wrong.
    """
    experts = open_experts(recipe) if recipe.objective.kind == "mtt" else None
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    normalization = launch.main_first(accelerator, lambda: preprocessing(recipe.data, train))
    precision: Precision = "bf16" if accelerator.mixed_precision == "bf16" else "no"
    prior = launch.main_first(
        accelerator,
        lambda: build_prior(
            recipe,
            accelerator.device,
            class_names=train.class_names,
            normalization=normalization,
            precision=precision,
        ),
    )
    if experts is not None:
        experts.fit(train, normalization)
    objective = recipe_objective(recipe, train, normalization, experts)
    check_classes_per_step(
        recipe.distill.classes_per_step,
        num_classes=train.num_classes,
        processes=accelerator.num_processes,
        scope=objective.scope,
    )
    return Parts(train, test, normalization, prior, objective, experts)


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
    return load_prior(
        recipe.prior,
        resolution=recipe.data.resolution,
        class_names=class_names,
        normalization=normalization,
        seed=recipe.seed,
        precision=precision,
        device=device,
    )


def recipe_objective(
    recipe: Recipe,
    train: Dataset,
    normalization: Preprocessing,
    experts: ExpertFiles | ReplayBuffers | None = None,
) -> Objective:
    """What to match; experts are opened unless they are given.

    Raises:
        InputError: experts that are missing or were made otherwise.
    """
    spec = recipe.objective
    if experts is None and spec.kind == "mtt":
        experts = open_experts(recipe)
        experts.fit(train, normalization)
    return build_objective(
        spec,
        num_classes=train.num_classes,
        resolution=train.resolution,
        normalization=normalization,
        experts=experts,
        seed=recipe.seed,
    )
