"""What hashes and earlier runs know settings by, while keys are added and defaults change.

Hashes must not move, and must not be shared by what is different. So a key that came after hashes
held its dataclass whole has `field(..., metadata=LATE)`, and one whose default was another before
has `metadata={"was": VALUE}`. Imports no torch.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

LATE = {"late": True}


def digest(content: bytes) -> str:
    """12 hex digits (SHA-256), which protocols and names of own code end in."""
    return hashlib.sha256(content).hexdigest()[:12]


def file_digest(path: str) -> str:
    """`digest` of a file's content; read once, and again where the file has changed."""
    status = Path(path).stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache  # folders of images have many
def _file_digest(path: str, size: int, written_at: int, changed_at: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def filled(stored: Any, schema: type) -> Any:
    """Settings as an earlier version wrote them, with the first defaults of the keys they lack.

    Args:
        stored: the settings as JSON has them; returned as it is if no mapping.
        schema: their dataclass, of which every field has a default.
    """
    first = {field.name: _plain(first_default(field), _every) for field in fields(schema)}
    return _laid_over(json.loads(json.dumps(first)), stored)


def facts_of(settings: Any) -> dict[str, Any]:
    """All fields of a dataclass instance as JSON has them, sections likewise, for hashes.

    Late keys are left out at their first default, as they were before there were any.
    """
    return {
        field.name: _plain(value, facts_of)
        for field, value in _values(settings)
        if not field.metadata.get("late") or value != first_default(field)
    }


def changed(settings: Any) -> dict[str, Any]:
    """The fields that are not at their first defaults, sections likewise.

    Those that change nothing beside the others (`idle`) are left out as well.
    """
    without_effect = getattr(settings, "idle", ())
    return {
        field.name: _plain(value, changed)
        for field, value in _values(settings)
        if value != first_default(field) and field.name not in without_effect
    }


def idle(reasons: Mapping[str, bool]) -> set[str]:
    """The names whose reason to change nothing holds."""
    return {name for name, holds in reasons.items() if holds}


def first_default(field: "Field[Any]") -> Any:
    """The default that a field first had, which hashes leave out."""
    if "was" in field.metadata:
        return field.metadata["was"]
    return field.default if field.default_factory is MISSING else field.default_factory()


def _values(settings: Any) -> list[tuple["Field[Any]", Any]]:
    return [(field, getattr(settings, field.name)) for field in fields(settings)]


def _every(settings: Any) -> dict[str, Any]:
    return {field.name: _plain(value, _every) for field, value in _values(settings)}


def _plain(value: Any, section: Callable[[Any], dict[str, Any]]) -> Any:
    """A value as JSON has it, dataclasses as `section` makes them."""
    if is_dataclass(value):
        return section(value)
    return [_plain(one, section) for one in value] if isinstance(value, list | tuple) else value


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}
