"""Reading recipes: YAML, then `key=value` overrides, checked against the dataclasses of `recipe`.

The only reader and writer of YAML. Imports neither torch nor anything that does.
"""

import os
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from latentdc.errors import InputError
from latentdc.misfits import misfit, nearest, unknown_key

__all__ = [
    "RECIPE",
    "claim",
    "find",
    "load",
    "nearest",
    "refuse_other",
    "save",
    "shipped_folder",
    "to_yaml",
]

T = TypeVar("T")
RECIPE = "recipe.yaml"  # in a run folder


def load(
    schema: type[T], path: Path, overrides: Sequence[str] = (), *, without: Collection[str] = ()
) -> T:
    """A checked instance of the dataclass `schema` from a YAML file and dotted overrides.

    Args:
        schema: a dataclass.
        path: of the file.
        overrides: `key=value`.
        without: keys of the file that are left out, because overrides stand in their place.

    Raises:
        InputError: unreadable YAML, unknown key (with the nearest name), wrong type or range.
    """
    loaded, written = _read(path), _from_command_line(overrides)
    for key in without:
        loaded.pop(key, None)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), loaded, written)
    except ConfigKeyError as error:
        raise InputError(f"{path.name}: {unknown_key(schema, str(error.full_key))}") from error
    except (OmegaConfBaseException, TypeError) as error:
        wrong = [misfit(schema, _plain(given)) for given in (loaded, written)]
        raise InputError(f"{path.name}: {wrong[0] or wrong[1] or _one_line(error)}") from error
    try:
        return cast(T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise InputError(f"{path.name}: {error.full_key}: {_one_line(error)}") from error


def find(name: str, folder: str) -> Path:
    """A file named by path, or by its bare name among those that the package brings in `folder`.

    `recipes/digits_ipc1.yaml`, `digits_ipc1.yaml` and `digits_ipc1` all find the shipped recipe
    where no such file lies in the current folder.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_folder(folder)
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    for candidate in (shipped / relative, shipped / f"{relative}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(str(p.relative_to(shipped).with_suffix("")) for p in shipped.rglob("*.yaml"))
    hint = nearest(path.stem, known)
    raise InputError(f"no file {name}, and latentdc brings none of that name{hint}: {known}.")


def shipped_folder(folder: str) -> Path:
    """`recipes` or `assets/priors`: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("latentdc")))
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def to_yaml(config: object) -> str:
    """The whole of a dataclass instance as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def save(config: object, path: Path) -> None:
    """Write the resolved recipe, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(to_yaml(config))
    os.replace(part, path)


def claim(recipe: object, folder: Path, *, may_change: Sequence[str] = ()) -> None:
    """Write the recipe into its run folder, or refuse a folder that another recipe made.

    Args:
        recipe: a dataclass instance.
        folder: of the run; made if need be.
        may_change: beginnings of dotted keys that a continued run may set anew.

    Raises:
        InputError: the folder holds a run whose recipe differs elsewhere.
    """
    refuse_other(recipe, folder, may_change=may_change)
    folder.mkdir(parents=True, exist_ok=True)
    save(recipe, folder / RECIPE)


def refuse_other(recipe: object, folder: Path, *, may_change: Sequence[str] = ()) -> None:
    """What `claim` refuses, without writing anything.

    Raises:
        InputError: as `claim`.
    """
    path = folder / RECIPE
    if not path.is_file():
        return
    older = _flat(_plain(_read(path)))
    before = _resolved(type(recipe)()) | older  # keys that it lacks came later and were at defaults
    now = _resolved(recipe)
    differing = [
        f"{key} is {now.get(key)!r} and was {before.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(tuple(may_change))
    ]
    if differing:
        more = f"; {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"{folder} holds a run of another recipe ({'; '.join(differing[:3])}{more}); give this "
            "one a folder of its own with output=..., or remove that one."
        )


def _read(path: Path) -> DictConfig:
    """A YAML file that holds a mapping."""
    try:
        loaded = OmegaConf.load(path)
    except (OSError, YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"{path} holds a list; a recipe is a mapping of keys to values.")
    return loaded


def _from_command_line(overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        if not override.partition("=")[0] or "=" not in override:
            raise InputError(f"an override is key=value, got {override!r}; see --help.")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"cannot read {' '.join(overrides)}: {_reason(error)}") from error


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config))


def _resolved(config: object) -> dict[str, object]:
    """All dotted keys of a dataclass instance."""
    return _flat(_plain(cast(DictConfig, OmegaConf.create(to_yaml(config)))))


def _flat(node: Any, prefix: str = "") -> dict[str, object]:
    """Dotted keys of nested mappings; lists count as values."""
    if not isinstance(node, dict):
        return {prefix[:-1]: node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key!s}.")
    return flat


def _reason(error: Exception) -> str:
    """Why YAML cannot be read, with the line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return _one_line(error)
    return f"line {mark.line + 1}: {problem}"


def _one_line(error: Exception) -> str:
    """The first line of a message; OmegaConf appends key and type on further ones."""
    return str(error).strip().partition("\n")[0]
