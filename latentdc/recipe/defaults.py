"""Settings beside their defaults, so that keys which came later change nothing of earlier runs."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from typing import Any


def filled(stored: Any, schema: type) -> Any:
    """Settings as an earlier version wrote them, with today's defaults of the keys they lack.

    Args:
        stored: the settings as JSON has them; returned as it is if no mapping.
        schema: their dataclass, of which every field has a default.
    """
    return _laid_over(json.loads(json.dumps(asdict(schema()))), stored)


def changed(settings: Any) -> dict[str, Any]:
    """Fields of a dataclass instance that are not at their defaults, sections likewise."""
    return {
        field.name: _changed(getattr(settings, field.name))
        for field in fields(settings)
        if getattr(settings, field.name) != _default(field)
    }


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}


def _changed(value: Any) -> Any:
    if is_dataclass(value):
        return changed(value)
    return [_changed(one) for one in value] if isinstance(value, list | tuple) else value


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
