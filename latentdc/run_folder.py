"""A run folder: whose it is, and what it keeps of a run.

A run whose latents have not been saved yet leaves a core set and nothing else of worth, so that a
recipe with the same data, pruning and seed may go on from there.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from latentdc import config
from latentdc.errors import InputError
from latentdc.io import require_writable
from latentdc.recipe import Data, Recipe
from latentdc.results.result import RESULTS, refuse_newer

CORESET, CHECKPOINTS, SET, GRID = "coreset.parquet", "checkpoints", "synthetic", "grid.png"
METRICS = "metrics.jsonl"  # a line for each step
EXPERTS = "experts.json"  # how the experts of a folder were trained
MAY_CHANGE = (  # when a run is continued: they do not touch the synthetic set
    "evaluate.",
    "push.",
    "output",
    "trackers",
    "threads",
    "processes",
    "data.cache",
    "prior.memory",
    "prior.chunk",
    "distill.checkpoint_every",
    "distill.grid_every",
    "sampling.checkpoint_seconds",
)
_DECIDE_CORESET = ("data", "prune", "seed")


def check_folder(recipe: Recipe, folder: Path, *, evaluates: bool = True) -> None:
    """Refuse a folder that the recipe can neither begin nor continue; writes nothing.

    `evaluates` says whether the command does what the recipe evaluates, and so replaces results.
    """
    require_writable(folder)
    require_apart(recipe.data, folder)
    kept = [name for name in (CORESET, CHECKPOINTS, SET) if (folder / name).exists()]
    if kept and not (folder / config.RECIPE).is_file():
        raise InputError(
            f"{folder} holds {', '.join(kept)} but no {config.RECIPE} that says how they were "
            "made; name another folder with output=..."
        )
    config.refuse_other(recipe, folder, begun=bool(kept), may_change=_may_change(folder))
    if evaluates and recipe.evaluate.rows:
        refuse_newer(folder / RESULTS)


def claim_folder(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into its folder, made if need be, which `check_folder` let pass."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save(recipe, folder / config.RECIPE)


def require_apart(
    data: Data, folder: Path, key: str = "output=...", *, tables: bool = True
) -> None:
    """Refuse a folder that would be read as images, tables or a class of the data set.

    `key` names another folder; `tables` says whether images or tables are written there.
    """
    source = Path(data.source)
    if data.kind != "images" or not source.is_dir():
        return
    # Path.resolve fails on links in a circle, which are refused where the folder is locked.
    home, place = (Path(os.path.realpath(one)) for one in (source, folder))
    if not place.is_relative_to(home):
        return
    from latentdc.data.folder import reads  # imports torch

    if reads(data, place, tables=tables):
        raise InputError(
            f"{folder} lies among the images of data.source={data.source}, and what is written "
            f"there would be read as some of them; name a place elsewhere with {key}"
        )


def _may_change(folder: Path) -> tuple[str, ...]:
    begun = (folder / SET).exists() or any(folder.glob(f"{CHECKPOINTS}/step-*[0-9]"))
    if begun or not (folder / CORESET).is_file():
        return MAY_CHANGE
    return MAY_CHANGE + tuple(
        field.name for field in fields(Recipe) if field.name not in _DECIDE_CORESET
    )


def stage_seconds(
    provenance: Mapping[str, Any], steps: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """Seconds of making a set, by stage, over every start of its run.

    The set's provenance tells those of sampling's stages and of trials of rates; the steps of
    matching, which have a loss, are summed. Other methods have one stage, which is called after
    them. Networks that runs share (scorers, classifiers, experts) are no part of it. `steps` are
    the lines of `METRICS`.
    """
    told: Mapping[str, float] = provenance.get("seconds", {})
    found = dict(told)
    for step in steps:
        stage = "matching" if "loss" in step else provenance["method"]
        if "loss" in step or not told:
            found[stage] = found.get(stage, 0.0) + step["seconds"]
    return found
