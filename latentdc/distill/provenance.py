"""What a synthetic set says of where it comes from, fit to be published with it."""

from dataclasses import replace

from latentdc import __version__, config
from latentdc.priors.base import Prior
from latentdc.priors.pixel import VectorPrior
from latentdc.prune.coreset import Coreset
from latentdc.published import without_paths
from latentdc.recipe import Recipe


def provenance(
    recipe: Recipe, name: str, prior: Prior, coreset: Coreset, precision: str
) -> dict[str, object]:
    """The facts that a set keeps of its making, in JSON's types.

    Args:
        recipe: of the run.
        name: of the recipe.
        prior: that was optimised in.
        coreset: that was matched, which need not be of the recipe's own pruning.
        precision: that Accelerate runs in.
    """
    shared = without_paths(recipe)
    return {
        "dataset": shared.data.source,
        "subset": shared.data.subset,
        "values" if isinstance(prior, VectorPrior) else "resolution": prior.resolution,
        "recipe": name,
        "prior": shared.prior.kind,
        "weights": None if isinstance(prior, VectorPrior) else shared.prior.weights,
        "prior_hash": prior.identity,
        "objective": shared.objective.kind,
        "network": shared.objective.network,
        "ipc": shared.ipc,
        "steps": shared.distill.steps,
        "rule": coreset.rule,
        "order": coreset.order,
        "keep": round(coreset.keep, 6),
        "core_set": len(coreset),
        "precision": precision,
        "seed": shared.seed,
        "latentdc": __version__,
    }


def shared_recipe(recipe: Recipe) -> str:
    """YAML of the recipe as the set carries it."""
    data = replace(recipe.data, cache=None)
    return config.to_yaml(without_paths(replace(recipe, data=data, output=None)))
