"""Reading recipes: YAML, then `key=value` overrides, checked against the dataclasses of `recipe`.

The only reader and writer of YAML. Imports neither torch nor anything that does.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from latentdc.errors import InputError

T = TypeVar("T")


def load(schema: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """A checked instance of the dataclass `schema` from a YAML file and dotted overrides.

    Raises:
        InputError: unreadable YAML, unknown key (with the nearest name), wrong type or range.
    """
    for override in overrides:
        if "=" not in override:
            raise InputError(f"an override is key=value, got {override!r}; see --help.")
    try:
        loaded = OmegaConf.load(path)
        written = OmegaConf.from_dotlist(list(overrides))
    except (OSError, YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"cannot read {path}: {_one_line(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(
            f"{path} holds a {type(loaded).__name__}, not a mapping of keys to values."
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), loaded, written)
        return cast(T, OmegaConf.to_object(merged))
    except ConfigKeyError as error:
        raise InputError(f"{path.name}: {_unknown_key(schema, str(error.full_key))}") from error
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise InputError(f"{path.name}: {key}{_one_line(error)}") from error


def find(name: str, folder: str) -> Path:
    """A file named by path, or by its bare name among those that the package brings in `folder`.

    `recipes/digits_ipc1.yaml`, `digits_ipc1.yaml` and `digits_ipc1` all find the shipped recipe
    where no such file lies in the current folder.
    """
    path = Path(name)
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
        may_change: dotted keys that a continued run may set anew.

    Raises:
        InputError: the folder holds a run whose recipe differs elsewhere.
    """
    path = folder / "recipe.yaml"
    if path.is_file():
        before, now = _flat(OmegaConf.load(path)), _flat(OmegaConf.create(to_yaml(recipe)))
        differing = [
            f"{key} is {now.get(key)!r} and was {before.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(tuple(may_change))
        ]
        if differing:
            raise InputError(
                f"{folder} holds a run of another recipe ({'; '.join(differing[:3])}); give this "
                "one a folder of its own with output=..., or remove that one."
            )
    folder.mkdir(parents=True, exist_ok=True)
    save(recipe, path)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing where no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _flat(node: Any, prefix: str = "") -> dict[str, object]:
    """Dotted keys of a nested configuration; lists count as values."""
    if not isinstance(node, DictConfig):
        return {prefix[:-1]: OmegaConf.to_container(node) if OmegaConf.is_config(node) else node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key!s}.")
    return flat


def _unknown_key(schema: type, full_key: str) -> str:
    """Name an unknown dotted key and the nearest one that exists at its place."""
    *parents, name = full_key.split(".")
    for parent in parents:
        types = {field.name: field.type for field in fields(schema)}
        inner = types.get(parent)
        if not (isinstance(inner, type) and is_dataclass(inner)):
            break
        schema = inner
    here = [field.name for field in fields(schema)]
    everywhere = _all_keys(schema)
    hint = nearest(name, here) or nearest(full_key, everywhere)
    return f"unknown key {full_key!r}{hint or f'; known here: {here}.'}"


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for field in fields(schema):
        keys.append(prefix + field.name)
        if isinstance(field.type, type) and is_dataclass(field.type):
            keys += _all_keys(field.type, f"{prefix}{field.name}.")
    return keys


def _one_line(error: Exception) -> str:
    """The first line of a message; OmegaConf appends key and type on further ones."""
    return str(error).strip().partition("\n")[0]
