"""What a set keeps of its making: recipe, prior and core set; when, on what and of which images."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from latentdc import __version__, config, runtime
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.io import as_read_back
from latentdc.priors.base import Prior
from latentdc.priors.pixel import PixelPrior, VectorPrior
from latentdc.prune.coreset import Coreset
from latentdc.published import published, without_paths
from latentdc.recipe import METHODS, Recipe
from latentdc.recipe.identity import filled

# Words of a command that decide where it writes and what it tells.
_ELSEWHERE = (
    *("output=", "data.cache=", "threads=", "processes=", "trackers=", "push."),
    *("-q", "-v", "--quiet", "--verbose"),
)


def provenance(
    recipe: Recipe, name: str, prior: Prior | None, coreset: Coreset, precision: str, *, size: int
) -> dict[str, object]:
    """The facts that a set keeps of its making, in JSON's types."""
    section = _told_section(recipe)
    shared = without_paths(recipe)
    facts: dict[str, object] = {
        "dataset": shared.data.source,
        "subset": shared.data.subset,
        "values" if recipe.data.kind == "vectors" else "resolution": size,
        "recipe": name,
        "method": shared.method.kind,
    }
    if prior is not None:
        facts |= {
            "prior": shared.prior.kind,
            "weights": None
            if isinstance(prior, PixelPrior | VectorPrior)
            else shared.prior.weights,
            "prior_hash": prior.identity,
        }
    if shared.matches:
        facts |= {
            "objective": shared.objective.kind,
            "network": None if shared.objective.kind == "denoise" else shared.objective.network,
            "steps": shared.distill.steps,
        }
    if shared.method.kind not in METHODS:
        facts["settings"] = as_read_back(shared.method.options)
    elif section is not None:
        facts["settings"] = as_read_back(asdict(without_paths(section)))
    return facts | {
        "ipc": shared.ipc,
        "rule": coreset.rule,
        "order": coreset.order,
        "keep": round(coreset.keep, 6),
        "core_set": len(coreset),
        "precision": precision,
        "seed": shared.seed,
        "latentdc": __version__,
    }


def same_making(facts: Mapping[str, object], kept: Mapping[str, object], recipe: Recipe) -> bool:
    """Whether a set that keeps `kept` was made as `facts` of the recipe say, by any version."""
    if (section := _told_section(recipe)) is not None:
        kept = {**kept, "settings": filled(kept.get("settings"), type(section))}
    return all(
        name in kept and kept[name] == value
        for name, value in facts.items()
        if name not in ("recipe", "latentdc")  # another name or version makes the same set
        and (name, value) != ("weights", None)  # earlier versions told the default of the key
    )


def require_same_data(kept: Mapping[str, object], train: Dataset, folder: Path) -> None:
    """Refuse to go on with a finished set of other training images.

    Its provenance `kept` may not say its data, which is not refused.
    """
    made = kept.get("made")
    known = made.get("data_hash") if isinstance(made, Mapping) else None
    if known not in (None, train.hash):
        raise InputError(
            f"the set in {folder} was made of other training images (hash {known}) than "
            f"{train.name} has now ({train.hash}); score it with `latentdc evaluate`, or give this "
            "run a folder of its own with output=..."
        )


def _told_section(recipe: Recipe) -> Any:
    """What beside `distill` settles the recipe's method; None where nothing does."""
    return next((getattr(recipe, name) for name in recipe.sections if name != "distill"), None)


def circumstances(
    train: Dataset, accelerator: Accelerator, command: Sequence[str]
) -> dict[str, object]:
    """When, how, on what and with which versions a set was made, and of which training images."""
    return {
        **({"command": shared_command(command)} if command else {}),
        "date": datetime.now(UTC).date().isoformat(),
        "data_hash": train.hash,
        **runtime.this_machine(accelerator),
        "diffusers": version("diffusers"),
    }


def shared_command(words: Sequence[str]) -> str:
    """A command line without paths, and without words that say nothing about the set."""
    return str(published(shlex.join([w for w in words if not w.startswith(_ELSEWHERE)])))


def shared_recipe(recipe: Recipe) -> str:
    """YAML of the recipe as the set carries it."""
    data = replace(recipe.data, cache=None)
    return config.to_yaml(without_paths(replace(recipe, data=data, output=None)))
