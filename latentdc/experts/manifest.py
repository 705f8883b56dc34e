"""What expert trajectories depend on, and where they lie. Imports no torch."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from latentdc.errors import InputError
from latentdc.io import read_json
from latentdc.recipe import Recipe

MANIFEST = "experts.json"
CORESET = "coreset.parquet"  # what the experts were trained on
# What the absence of a fact means, in manifests from before it was noted.
UNSAID: dict[str, Any] = {"precision": "no", "pruning": {"coreset": "not recorded"}}


def experts_folder(recipe: Recipe) -> Path:
    """`objective.trajectory.experts`, or a folder of its own for all that experts depend on.

    Recipes that differ elsewhere, in their prior for instance, so share their experts. A given core
    set counts by its contents, in place of the rest of the pruning.
    """
    if (named := recipe.objective.trajectory.experts) is not None:
        return Path(named).expanduser()
    data = changed(replace(recipe.data, cache=None))
    facts = [_training(recipe), pruning(recipe), data, recipe.seed]
    text = json.dumps(facts, sort_keys=True)
    return Path("runs") / "experts" / hashlib.sha256(text.encode()).hexdigest()[:12]


def facts_of(recipe: Recipe) -> dict[str, Any]:
    """Facts that a recipe wants of its experts, without those that take the open data.

    A recipe with a core set of its own does not ask how the experts' was chosen, only (by
    `files.data_facts`) whether it is the same.
    """
    given = recipe.prune.coreset is not None
    return _training(recipe) | ({} if given else {"pruning": pruning(recipe)})


def pruning(recipe: Recipe) -> dict[str, Any]:
    """How the core set comes about: settings that are not at their defaults, or the file's hash.

    Raises:
        InputError: the file of a given core set cannot be read.
    """
    if recipe.prune.coreset is None:
        return changed(recipe.prune)
    try:
        content = Path(recipe.prune.coreset).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read prune.coreset={recipe.prune.coreset}: {error}.") from error
    return {"coreset": hashlib.sha256(content).hexdigest()[:16]}


def _training(recipe: Recipe) -> dict[str, Any]:
    settings = asdict(recipe.experts)
    del settings["count"]
    network, resolution = recipe.objective.network, recipe.data.resolution
    return {"network": network, "resolution": resolution, **settings}


def changed(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults, so that new ones change nothing."""
    plain, found = type(settings)(), {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(plain, field.name):
            found[field.name] = changed(value) if is_dataclass(value) else value
    return found


def expert_path(folder: Path, index: int) -> Path:
    """File of one expert."""
    return folder / f"expert-{index:05d}.safetensors"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Facts of the experts in a folder; None where it has none."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = read_json(path)
        if not isinstance(manifest, dict):
            raise ValueError("it holds no mapping")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); remove the folder.") from error
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it, whole or not at all; facts that are there already stay."""
    facts = {**manifest, **(read_manifest(folder) or {})}
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(part, folder / MANIFEST)


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or filled; writes nothing.

    Raises:
        InputError: it, or the folder it would be made in, is a file or is closed to us.
    """
    place = folder.absolute()
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"cannot write to {folder}; name another folder with objective.trajectory.experts=..."
        )


def require_same(folder: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse experts of another making.

    Args:
        folder: that they lie in, for the message.
        manifest: their facts.
        wanted: facts to compare; where the manifest lacks one, `UNSAID` says what it was, and what
            is not there either is not compared.

    Raises:
        InputError: names the first fact that differs.
    """
    for key, value in json.loads(json.dumps(dict(wanted))).items():
        found = manifest.get(key, UNSAID.get(key, value))
        if found != value:
            raise InputError(
                f"the experts in {folder} were trained with {key} {found!r}, and this recipe has "
                f"{value!r}; name others, or a new folder, with objective.trajectory.experts=..., "
                "and train what it lacks with `latentdc experts RECIPE` and the same overrides."
            )
