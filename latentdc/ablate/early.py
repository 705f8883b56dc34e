"""What would stop a variant once its turn comes, found before the first one runs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentdc.ablate.variants import VARIANTS
from latentdc.errors import InputError
from latentdc.methods.matching import check_moves
from latentdc.parts import build_prior, recipe_experts
from latentdc.priors.files import WeightsMissing
from latentdc.recipe import Recipe
from latentdc.sweep import finished


def check_variants(
    recipes: Mapping[str, Recipe], name: str, overrides: Sequence[str], folder: Path
) -> None:
    """Refuse variants that would move nothing, or whose experts are missing or made otherwise.

    Args:
        recipes: by variant; finished ones are not looked at.
        name: of the recipe that they vary, as it was given.
        overrides: of all variants alike.
        folder: of the ablation.

    Raises:
        InputError: names the first such variant, and the command that trains its experts.
    """
    for variant, recipe in recipes.items():
        if finished.is_finished(recipe, folder / variant):
            continue
        try:
            _check_moves(recipe)
        except InputError as error:
            raise InputError(f"variant {variant}: {error}") from error
        try:
            recipe_experts(recipe)
        except InputError as error:
            words = ["latentdc", "experts", name, *overrides, *VARIANTS[variant]]
            raise InputError(
                f"variant {variant}: {error} Here that is: {shlex.join(words)}"
            ) from error


def _check_moves(recipe: Recipe) -> None:
    """As the run will, as far as the outline of the prior is known."""
    spec = recipe.distill
    if spec.lr_z > 0 or recipe.prior.kind != "diffusion":
        return  # the recipe itself was refused where it moves nothing
    try:
        prior = build_prior(recipe, "meta")
    except WeightsMissing:
        return
    learns = recipe.objective.kind == "mtt"
    check_moves(prior, spec, learns=learns, steps=spec.steps, device="meta")
