"""What is wrong with a recipe, in words: an unknown key, and the nearest known one."""

import difflib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass


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


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for field in fields(schema):
        keys.append(prefix + field.name)
        if isinstance(field.type, type) and is_dataclass(field.type):
            keys += _all_keys(field.type, f"{prefix}{field.name}.")
    return keys
