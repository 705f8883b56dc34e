"""Reading recipes: YAML, then `key=value` overrides, checked against the dataclasses of `recipe`.

Imports neither torch nor anything that does.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from latentdc import plain_yaml
from latentdc.errors import InputError
from latentdc.misfits import nearest
from latentdc.typed import Misfit, build, check_text

__all__ = [
    "RECIPE",
    "claim",
    "dump",
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
    content = {key: value for key, value in plain_yaml.read(path).items() if key not in without}
    tree = _merged(content, _from_command_line(overrides))
    try:
        return build(schema, tree)
    except Misfit as error:
        in_file = str(error) == _misfit(schema, content)
        raise InputError(f"{path.name}: {error}" if in_file else str(error)) from error


def _misfit(schema: type, content: dict[str, Any]) -> str | None:
    """What is wrong with a file by itself."""
    try:
        build(schema, content)
    except InputError as error:
        return str(error)
    return None


def find(name: str, folder: str) -> Path:
    """A file named by path, or by its bare name among those that the package brings in `folder`.

    `recipes/digits_ipc1.yaml`, `digits_ipc1.yaml` and `digits_ipc1` all find the shipped recipe
    where no such file lies in the current folder.
    """
    check_text(name, "the file's name")
    if not name:
        raise InputError(f"a YAML file, or one of {folder} by its name, is meant; got ''.")
    shipped = shipped_folder(folder)
    try:
        path = Path(name).expanduser()
        relative = path.relative_to(folder) if path.is_relative_to(folder) else path
        for candidate in (path, shipped / relative, shipped / f"{relative}.yaml"):
            if candidate.is_file():
                return candidate
        if path.is_dir():
            raise InputError(f"{name} is a folder; name a YAML file, such as {path / RECIPE}.")
    except (OSError, RuntimeError) as error:  # too long, closed to us; no such user's home
        why = getattr(error, "strerror", None) or error
        raise InputError(f"no file {name[:300]}: {why}.") from error
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
    return dump(asdict(cast(Any, config)))


def dump(tree: object) -> str:
    """Mappings, lists and plain values as YAML; words that were read stand as they were written."""
    text: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text


def save(config: object, path: Path) -> None:
    """Write the resolved recipe, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(to_yaml(config), encoding="utf-8")
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
    # Keys that it lacks came later, and were at their defaults.
    before, now = (
        _flat(asdict(cast(Any, load(type(recipe), path)))),
        _flat(asdict(cast(Any, recipe))),
    )
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


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes text that a reader of YAML 1.2 would take for a number."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "'" if plain_yaml.FLOAT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_plain(dumper: _Dumper, text: plain_yaml.Plain) -> yaml.Node:
    tag = dumper.resolve(yaml.ScalarNode, str(text), (True, False))
    return dumper.represent_scalar(tag, str(text), style="")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(plain_yaml.Plain, _represent_plain)


def _from_command_line(overrides: Sequence[str]) -> dict[str, Any]:
    """What overrides say, as a file would: `a.b=1` is `{a: {b: 1}}`; later ones win."""
    tree: dict[str, Any] = {}
    for override in overrides:
        key, given, text = override.partition("=")
        shown = override[:200].encode("utf-8", "backslashreplace").decode()
        if not key or not given:
            raise InputError(f"an override is key=value, got {shown!r}; see --help.")
        check_text(key, "an override")
        try:
            value = plain_yaml.parse(text)
        except yaml.YAMLError as error:
            raise InputError(f"cannot read {shown}: {plain_yaml.reason(error)}") from error
        for name in reversed(key.split(".")[: plain_yaml.DEEPEST]):
            value = {name: value}
        tree = _merged(tree, value)
    return tree


def _merged(below: Any, above: Any) -> Any:
    """Mappings key by key; of anything else, what is above."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}


def _flat(node: Any, prefix: str = "") -> dict[str, object]:
    """Dotted keys of nested mappings; lists count as values."""
    if not isinstance(node, dict):
        return {prefix[:-1]: node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key!s}.")
    return flat
