"""What leaves this machine with a set: names in place of paths. Imports no torch.

Everything that is written into the folder of a set, and so pushed, passes through here.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import yaml

from latentdc import config
from latentdc.errors import InputError

T = TypeVar("T")
_PATHS = (  # keys that a path of any kind may stand under
    *("source", "cache", "coreset", "scores", "features", "weights", "autoencoder", "experts"),
    *("protocol", "output", "dataset", "pool", "start"),
)
_CLASSES = ("classes", "class_names", "names", "restricted_to")  # whose names are data: /m/01yrx
_START = r"(?:file:/+|~[\w.-]*[/\\]|\.\.?[/\\]|/(?!/)|(?<!:)//+|[A-Za-z]:[/\\]|\\\\)"
_WHOLE = re.compile(rf"\s*{_START}", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")  # of an address: user:password@
_TOKEN = re.compile(rf"(?<![^\s\"'(\[{{=,;:<>|`]){_START}[^\s\"')\]}},;<>|`]+", re.IGNORECASE)


def published(tree: Any, key: str = "") -> Any:
    """A tree of JSON's types in which every path of this machine is its last part alone."""
    if isinstance(tree, Mapping):
        return {
            published(name): one if name in _CLASSES else published(one, str(name))
            for name, one in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [published(one, key) for one in tree]
    return _named(tree, key) if isinstance(tree, str) else tree


def published_yaml(text: str) -> str:
    """YAML likewise; as it is where it holds neither paths nor comments.

    Raises:
        InputError: it is no YAML.
    """
    try:
        tree = config.parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"the recipe of a set is YAML: {config.reason(error)}.") from error
    named = published(tree)
    return text if named == tree and not re.search(r"(^|\s)#", text) else config.dump(named)


def without_paths(node: T) -> T:
    """A dataclass likewise."""
    assert is_dataclass(node) and not isinstance(node, type)
    changed: dict[str, object] = {}
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            changed[field.name] = without_paths(value)
        elif field.name not in _CLASSES:
            changed[field.name] = published(value, field.name)
    return cast(T, replace(node, **changed))


def _named(text: str, key: str) -> str:
    """The last part of a path; of other text, each path in it shortened to that."""
    home, path = os.path.expanduser("~"), os.path.expanduser(text)
    if key in _PATHS and os.path.exists(path):
        path = os.path.realpath(path)
        return "local" if path == os.path.realpath(home) else _last(path)
    if _WHOLE.match(text):
        return "local" if path.rstrip("/") == home else _last(text)
    named = text
    if len(home) > 1:  # in front of it anything may stand, such as a quote of another alphabet
        named = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", named)
    named = _LOGIN.sub("", _TOKEN.sub(lambda found: _last(found[0]), named))
    return text if named == text else named  # a word of YAML stays one


def _last(path: str) -> str:
    parts = [part for part in re.split(r"[/\\]+", path.strip()) if part]
    return parts[-1] if parts and not re.fullmatch(r"~.*|\.\.?|\w:", parts[-1]) else "local"
