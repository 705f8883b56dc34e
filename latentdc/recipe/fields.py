"""Values of settings, by the types of their dataclass's fields: one rule for YAML and for Python.

What no field may hold is refused here, in one place: another type, numbers that are not finite or
beyond all sense, text that is no text, unknown keys (with the nearest known one). Imports no torch.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from itertools import islice
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from latentdc.errors import InputError
from latentdc.recipe.own import FORM, Own, is_own, name_of

T = TypeVar("T")
# Whole numbers beyond these are slips, found before anything is allocated or waited for.
_MOST = 1_000_000
_MOST_OF = {
    "seed": 2**63 - 1,
    "experts.count": 100_000,
    **dict.fromkeys(("steps", "count", "checkpoint_every", "grid_every", "refresh"), 10**9),
    **dict.fromkeys(("seeds", "together", "runs", "subsets", "threads", "heads", "layers"), 10_000),
    **dict.fromkeys(("channels", "latent_channels", "condition", "resolution"), 16_384),
    **dict.fromkeys(("pad", "shuffle", "cells"), 1024),
}
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|nan)", re.ASCII | re.IGNORECASE)
_HINTED = re.compile(r"[-+.]?[0-9]")
_BARE = re.compile(r"[-+.]*([0-9]|inf|nan|true$|false$)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line feeds
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LARGEST_FLOAT = 1e38  # of float32
_LONGEST = 10_000  # characters of a text
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
NULLS = ("", "~", "null", "Null", "NULL")
TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON")
FALSE = ("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF")
INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
INTERPOLATION = "'${' would be an interpolation, which recipes do not have; write the value itself"


class Plain(str):
    """A scalar without quotes: a number, a flag, null or text, as the place that it stands in."""


class Misfit(InputError):
    """A key that is unknown, or a value of another type than its field's.

    `path` are the names that lead there, none where a key is lacking.
    """

    def __init__(self, told: str, path: Sequence[str] = ()) -> None:
        super().__init__(told)
        self.path = path


class _Other(Exception):
    """A value that has not the wanted type; the field's key and type are said above."""


def build(
    schema: type[T],
    tree: Mapping[str, Any],
    prefix: str = "",
    root: type | None = None,
    base: T | None = None,
) -> T:
    """An instance of the dataclass `schema` from a tree of YAML, its sections as mappings.

    Args:
        schema: a dataclass.
        tree: its values by name.
        prefix: dotted keys that lead here, with a dot at the end.
        root: dataclass that `prefix` starts in, whose keys are known; None means `schema` itself.
        base: gives what the tree leaves out; None means the defaults.

    Raises:
        InputError: an unknown key (with the nearest name), a missing one, or as `check_fields`.
    """
    known = {field.name: field for field in fields(cast(Any, schema))}
    strange = [name for name in tree if name not in known]
    if strange:
        path = [*prefix.split(".")[:-1], strange[0]]
        raise Misfit(_unknown(schema, strange[0], prefix, root), path)
    values = {} if base is None else {name: getattr(base, name) for name in known}
    for name, value in tree.items():
        field, key = known[name], prefix + name
        if is_dataclass(field.type) and isinstance(value, Mapping):
            default = None if field.default_factory is MISSING else field.default_factory()
            kind = cast(type, field.type)
            values[name] = build(kind, value, f"{key}.", root or schema, default)
        else:
            values[name] = _field(field.type, value, key)
    lacking = [
        prefix + name
        for name, field in known.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if lacking:
        raise Misfit(f"it lacks {', '.join(lacking)}.")
    return schema(**values)


def _unknown(schema: type, name: str, prefix: str, root: type | None) -> str:
    name = name if len(name) < 100 else f"{name[:100]}..."
    first, dot, rest = name.partition(".")
    if dot and first in {field.name for field in fields(cast(Any, schema))}:
        return (
            f"unknown key {prefix + name!r}: dots are for overrides; in a file and in braces write "
            f"{first}: {{{rest.replace('.', ': {')}: ...}}{'}' * rest.count('.')}."
        )
    if name == "<<":
        return "merging mappings by '<<' is not read; write their keys where they are meant."
    if root is not None:
        return _unknown_key(root, prefix + name)
    return (f"{prefix[:-1]}: " if prefix else "") + _unknown_key(schema, name)


def check_fields(spec: object, prefix: str = "") -> None:
    """Refuse what no field of a dataclass may hold; the first line of its `__post_init__`.

    Numbers become their field's kind (1 is 1.0 where a float is meant), tuples and lists likewise.
    The `prefix` of its dotted keys ends with a dot.
    """
    for field in fields(cast(Any, spec)):
        value = _field(field.type, getattr(spec, field.name), prefix + field.name)
        object.__setattr__(spec, field.name, value)


def _field(expected: Any, value: Any, key: str) -> Any:
    try:
        return _fit(expected, value, key)
    except _Other:
        got = f"{key} takes {_describe(expected)}, got {show(value)}."
        raise Misfit(got + _hint(expected, value), key.split(".")) from None


def _fit(expected: Any, value: Any, key: str) -> Any:
    """`value` as the type that is expected."""
    if expected in _SCALARS:
        return _SCALARS[expected](value, key)
    origin, arguments = get_origin(expected), get_args(expected)
    if isinstance(expected, type) and is_dataclass(expected):
        if isinstance(value, expected):
            return value
        if not isinstance(value, Mapping):
            raise _Other
        return build(expected, value, f"{key}.")
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _Other
        return str(value)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise _Other
        types = arguments if origin is tuple else arguments * len(value)
        if len(types) != len(value):
            raise _Other
        places = [f"{key}.{at}" if is_dataclass(types[0]) else key for at in range(len(value))]
        return origin(map(_fit, types, value, places))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _Other
        kind, inner = arguments
        names = [Plain(name) if kind is int and isinstance(name, str) else name for name in value]
        return {
            _fit(kind, name, key): _fit(inner, one, f"{key}.{name}")
            for name, one in zip(names, value.values(), strict=True)
        }
    if type(None) in arguments:  # X | None
        if value is None or (isinstance(value, Plain) and value in NULLS):
            return None
        [kind] = [one for one in arguments if one is not type(None)]
        return _fit(kind, value, key)
    [word] = [one for one in arguments if get_origin(one) is Literal]  # X | Literal[...]
    if isinstance(value, str) and value in get_args(word):
        return str(value)
    [kind] = [one for one in arguments if one is not word]
    if kind == Own and isinstance(value, str) and not is_own(value):
        raise _Other
    return _fit(kind, value, key)


def _whole(value: Any, key: str) -> int:
    number: Any = value
    if isinstance(value, Plain) and INT.fullmatch(value):
        number = int(value[:30])  # beyond all bounds already
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise _Other
    most = _MOST_OF.get(key, _MOST_OF.get(key.rpartition(".")[2], _MOST))
    if abs(int(number)) > most:
        raise InputError(f"{key} is at most {most:,}, got {show(value)}.")
    return int(number)


def _number(value: Any, key: str) -> float:
    number: Any = value
    if isinstance(value, Plain) and FLOAT.fullmatch(value):
        number = float(value)
    elif isinstance(value, Plain) and _NOT_FINITE.fullmatch(value):
        number = float(value.replace(".", ""))
    if not isinstance(number, Real) or isinstance(number, bool):
        raise _Other
    if not abs(cast(Any, number)) <= _LARGEST_FLOAT:
        most = f"a finite number of at most {_LARGEST_FLOAT:g}"
        raise InputError(f"{key} is {most}, got {show(value)}.")
    return float(number) + 0.0  # -0.0 is 0.0, in fingerprints too


def _flag(value: Any, key: str) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, Plain) or value not in (*TRUE, *FALSE):
        raise _Other
    return value in TRUE


def _text(value: Any, key: str) -> str:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str) or (isinstance(value, Plain) and value in NULLS):
        raise _Other
    check_text(value, key)
    return str(value)


def check_text(text: str, key: str) -> None:
    """Refuse text that no name, path or prompt has."""
    if "${" in text:
        raise InputError(f"{key}: {INTERPOLATION}.")
    if text.strip() == "???":
        raise InputError(f"{key} is ???, which stands for a missing value; write one.")
    if len(text) > _LONGEST:
        raise InputError(f"{key} has {len(text):,} characters, and at most {_LONGEST:,} are read.")
    if _CONTROL.search(text):
        raise InputError(f"{key} has control characters, got {show(text)}; leave them out.")
    if _SURROGATE.search(text):
        raise InputError(
            f"{key} has characters that UTF-8 cannot write, got {ascii(text)[:200]}; where they "
            "are of another locale, set PYTHONUTF8=1."
        )


def _own(value: Any, key: str) -> str:
    return name_of(value, partial(_text, key=key))


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    int: _whole,
    float: _number,
    bool: _flag,
    str: _text,
    Own: _own,
}


def show(value: Any) -> str:
    """A value as it was written, numbers and flags without quotes; not all of a long one."""
    text = _written(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        some = [f"{str(key)!r}: {_written(one)}" for key, one in islice(value.items(), 20)]
        return f"{{{', '.join(some)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(one) for one in value[:50])}]"
    if value is None or (isinstance(value, Plain) and value in NULLS):
        return "null"
    if isinstance(value, Plain) and value.isascii() and _BARE.match(value):
        return str(value)
    try:
        if isinstance(value, str):
            return repr(str(value)[:300])
        return " ".join(repr(value).split())  # that of an array has many lines
    except ValueError:
        return "a number that is too long to print"


def _hint(expected: Any, value: Any) -> str:
    """How to write a list of one, or a number where something like one came."""
    lists = [one for one in (expected, *get_args(expected)) if get_origin(one) is list]
    if lists:
        if isinstance(value, Plain):
            return "" if value in NULLS else f" Write [{value}]."
        named = getattr(value, "__name__", "") if Own in get_args(lists[0]) else ""
        return f" Write [{named}]." if named else ""
    kinds = {expected, *get_args(expected)} & {int, float}
    if not kinds or not isinstance(value, str) or not _HINTED.match(value):
        return ""
    if not isinstance(value, Plain) and (INT if int in kinds else FLOAT).fullmatch(value):
        return " Write it without quotes."
    if FLOAT.fullmatch(value):
        return ""
    return " Write numbers in digits, without a leading zero, '_' or ':'."


def _describe(expected: Any) -> str:
    origin, arguments = get_origin(expected), get_args(expected)
    if isinstance(expected, type) and is_dataclass(expected):
        return f"a mapping with the keys {', '.join(field.name for field in fields(expected))}"
    if origin is Annotated:
        return "text"
    if origin is Literal:
        return f"{'one of ' * (len(arguments) > 1)}{', '.join(map(repr, arguments))}"
    if origin is list:
        return f"a list of {_plural(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} {_plural(arguments[0])}"
    if origin is dict:
        return f"a mapping of {_plural(arguments[0])} to {_plural(arguments[1])}"
    if arguments:  # X | None, X | Literal[...]
        words: dict[Any, str] = {type(None): "null"}
        if any(get_origin(one) is Literal for one in arguments):
            words[Own] = FORM
        return " or ".join(words.get(one) or _describe(one) for one in arguments)
    return _WORDS.get(expected, str(expected))


def _plural(element: Any) -> str:
    flags = "flags (true or false)"
    words = {int: "whole numbers", float: "numbers", str: "texts", Own: "texts", bool: flags}
    return words.get(element) or f"values, each {_describe(element)}"


def _unknown_key(schema: type, full_key: str) -> str:
    """Name an unknown dotted key and what comes near: at its place first, then anywhere."""
    parent, _, name = full_key.rpartition(".")
    places: dict[str, list[str]] = {}  # dotted keys by their last part
    here = []
    for key in all_keys(schema):
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


def all_keys(schema: type, prefix: str = "") -> list[str]:
    """Dotted keys of a dataclass and those inside of it, sections too."""
    keys = []
    for field in fields(schema):
        keys.append(prefix + field.name)
        if isinstance(field.type, type) and is_dataclass(field.type):
            keys += all_keys(field.type, f"{prefix}{field.name}.")
    return keys
