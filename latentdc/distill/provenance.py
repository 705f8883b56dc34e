"""What a synthetic set says of where it comes from, fit to be published with it."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TypeVar

from latentdc import __version__, config
from latentdc.priors.base import Prior
from latentdc.priors.vector import VectorPrior
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Recipe

T = TypeVar("T")


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


def without_paths(node: T) -> T:
    """A copy of a dataclass in which every path of this machine is its last part alone."""
    assert is_dataclass(node) and not isinstance(node, type)
    changed: dict[str, object] = {}
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            changed[field.name] = without_paths(value)
        elif isinstance(value, str) and Path(value).expanduser().exists():
            changed[field.name] = Path(value).expanduser().resolve().name
    return replace(node, **changed)
