"""YAML as plain data: mappings, lists and words, and nothing that acts.

What recipes, sweeps and protocols are read with, and those of strangers too: no tags, no
interpolation, small files only. Scalars stay as they are written, because what `no`, `010` or `1e3`
means is for the field to say that it stands in (`latentdc.typed`). Imports no torch.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from latentdc.errors import InputError

LARGEST = 512 * 1024  # bytes of a file: ten times a recipe that names all classes of ImageNet-21k
NODES = 60_000  # scalars, lists and mappings, aliases expanded
CHARACTERS = 2 * LARGEST  # of all scalars, likewise
DEEPEST = 20  # lists and mappings inside each other
NULLS = ("", "~", "null", "Null", "NULL")
TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON")
FALSE = ("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF")
INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
INTERPOLATION = "'${' would be an interpolation, which recipes do not have; write the value itself"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Unfit(Exception):
    """What is wrong with a file."""


class Plain(str):
    """A scalar without quotes: a number, a flag, null or text, as the place that it stands in."""


def read(path: Path) -> dict[str, Any]:
    """The mapping that a file holds.

    Raises:
        InputError: no such file, too large, no YAML, no mapping, or one with tags or interpolation.
    """
    try:
        if not path.is_file():
            raise _Unfit("it is a folder" if path.is_dir() else "there is no such file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise _Unfit(f"it has more than {LARGEST // 1024} KB, which no recipe needs")
        tree = parse(content.decode("utf-8-sig"))
        if isinstance(tree, Plain) and tree in NULLS:
            raise _Unfit("it is empty; write keys and values, or {} for all defaults")
        if not isinstance(tree, dict):
            kind = "a list" if isinstance(tree, list) else f"{tree[:80]!r}"
            raise _Unfit(f"it holds {kind}; a recipe is a mapping of keys to values, `key: value`")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: it is not UTF-8 text ({error.reason}).") from error
    except (OSError, yaml.YAMLError, _Unfit) as error:
        raise InputError(f"cannot read {path}: {reason(error)}.") from error
    return tree


def parse(text: str) -> Any:
    """Mappings, lists, `Plain` scalars and quoted ones (`str`).

    Raises:
        yaml.YAMLError: no YAML, or something that is more than data; says the line.
    """
    try:
        events = yaml.parse(text, Loader=_LOADER)
        return _Reader(cast(Iterator[Any], events)).document()
    except UnicodeEncodeError as error:
        raise yaml.YAMLError(
            "it has characters that UTF-8 cannot write; where they are of another locale, set "
            "PYTHONUTF8=1"
        ) from error
    except RecursionError as error:
        raise yaml.YAMLError("lists and mappings are too deep inside each other") from error


def natural(tree: Any) -> Any:
    """What a tree means by itself, without fields: null, flags, numbers and text."""
    if isinstance(tree, dict):
        return {str(key): natural(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [natural(value) for value in tree]
    if not isinstance(tree, Plain):
        return tree
    if tree in NULLS:
        return None
    if tree in TRUE or tree in FALSE:
        return tree in TRUE
    if INT.fullmatch(tree) and len(tree) < 20:
        return int(tree)
    return float(tree) if FLOAT.fullmatch(tree) else str(tree)


def reason(error: Exception) -> str:
    """Why YAML cannot be read, in one line, with the number of that line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return str(error).strip().partition("\n")[0]
    return f"line {mark.line + 1}: {problem}"


class _Reader:
    """Builds the tree of one document from the parser's events, counting what it comes to."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._nodes = self._characters = 0
        self._anchors: dict[str, tuple[Any, int, int]] = {}  # with its nodes and characters

    def document(self) -> Any:
        """The only one; an empty text stands for null."""
        next(self._events)  # the stream starts
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Plain("")
        tree = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        if not isinstance(after := next(self._events), yaml.StreamEndEvent):
            raise _refusal("a second document begins; keep one", after)
        return tree

    def _node(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _refusal(f"alias *{event.anchor} stands for nothing before it", event)
            tree, nodes, characters = self._anchors[event.anchor]
            self._count(nodes, characters, event)
            return tree
        before = self._nodes, self._characters
        if event.tag is not None:
            raise _refusal(f"tag {event.tag[:80]}; write the value without a tag", event)
        if depth > DEEPEST:
            raise _refusal(f"more than {DEEPEST} lists and mappings inside each other", event)
        if isinstance(event, yaml.ScalarEvent):
            tree = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._count(1, 0, event)
            tree = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                tree.append(self._node(inner, depth + 1))
        else:
            self._count(1, 0, event)
            tree = self._mapping(depth)
        if event.anchor is not None:
            parts = self._nodes - before[0], self._characters - before[1]
            self._anchors[event.anchor] = tree, *parts
        return tree

    def _mapping(self, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, str):
                raise _refusal("a key is text, and this one is a list or a mapping", event)
            if isinstance(key, Plain) and key in NULLS:
                raise _refusal("a key is text, and this one is null", event)
            if key in tree:
                raise _refusal(f"found duplicate key {key[:80]}", event)
            tree[str(key)] = self._node(next(self._events), depth + 1)
        return tree

    def _scalar(self, event: Any) -> str:
        text: str = event.value
        self._count(1, len(text), event)
        if "${" in text:
            raise _refusal(INTERPOLATION, event)
        return Plain(text) if event.style is None or event.style == "" else text

    def _count(self, nodes: int, characters: int, event: Any) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > NODES or self._characters > CHARACTERS:
            raise _refusal(f"more than {NODES:,} values or {CHARACTERS:,} characters", event)


def _refusal(problem: str, event: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
