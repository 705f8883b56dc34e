"""What is wrong with a recipe, in words: an unknown key, or a value of the wrong type."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing where no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def unknown_key(schema: type, full_key: str) -> str:
    """Name an unknown dotted key and what comes near: at its place first, then anywhere."""
    parent, _, name = full_key.rpartition(".")
    places: dict[str, list[str]] = {}  # dotted keys by their last part
    here = []
    for key in _all_keys(schema):
        where, _, last = key.rpartition(".")
        places.setdefault(last, []).append(key)
        if where == parent:
            here.append(last)
    dot = f"{parent}." if parent else ""
    for candidates in ({last: [dot + last] for last in here}, places):
        matches = difflib.get_close_matches(name, candidates, n=1)
        if matches:
            meant = " or ".join(repr(key) for key in candidates[matches[0]])
            return f"unknown key {full_key!r}; did you mean {meant}?"
    return f"unknown key {full_key!r}; known here: {here or list(places)}."


def misfit(schema: type, given: Mapping[Any, Any]) -> str | None:
    """The first key in nested `given` whose value has not the schema's type; None if all have.

    Tried one by one, because the error of a merge does not always name its key.
    """
    for path, value in _leaves(given):
        nested: Any = value
        for name in reversed(path):
            nested = {name: nested}
        try:
            OmegaConf.merge(OmegaConf.structured(schema), nested)
        except (OmegaConfBaseException, TypeError):
            key, expected, value = _deepest(schema, path, nested)
            got = "null" if value is None else repr(value)
            return f"{key} takes {_describe(expected)}, got {got}."
    return None


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for field in fields(schema):
        keys.append(prefix + field.name)
        if isinstance(field.type, type) and is_dataclass(field.type):
            keys += _all_keys(field.type, f"{prefix}{field.name}.")
    return keys


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Path and value of everything in nested mappings; lists and empty mappings are values."""
    if not isinstance(node, Mapping) or not node:
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, (*path, str(key)))


def _deepest(schema: Any, path: tuple[str, ...], nested: Any) -> tuple[str, Any, Any]:
    """Dotted key, type and value where a path leaves the schema's dataclasses."""
    for depth, name in enumerate(path, start=1):
        types = {field.name: field.type for field in fields(schema)}
        schema, nested = types.get(name), nested[name]
        if not (isinstance(schema, type) and is_dataclass(schema)):
            return ".".join(path[:depth]), schema, nested
    return ".".join(path), schema, nested


def _describe(expected: Any) -> str:
    origin, arguments = get_origin(expected), get_args(expected)
    if isinstance(expected, type) and is_dataclass(expected):
        return f"a mapping with the keys {', '.join(field.name for field in fields(expected))}"
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is list:
        return f"a list of {_plural(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} {_plural(arguments[0])}"
    if origin is dict:
        return f"a mapping of {_plural(arguments[0])} to {_plural(arguments[1])}"
    if arguments and origin is not None and type(None) in arguments:  # X | None
        return " or ".join([_describe(a) for a in arguments if a is not type(None)] + ["null"])
    return _WORDS.get(expected, str(expected))


def _plural(element: Any) -> str:
    words = {int: "whole numbers", float: "numbers", str: "texts", bool: "flags (true or false)"}
    return words.get(element) or f"values, each {_describe(element)}"
