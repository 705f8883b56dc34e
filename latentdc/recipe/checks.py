"""What all parts of a recipe are checked with."""

import os

from latentdc.errors import InputError


def require(condition: bool, message: str) -> None:
    """Refuse a recipe that does not meet `condition`."""
    if not condition:
        raise InputError(message)


def expand_home(spec: object, *paths: str) -> None:
    """Replace `~` at the beginning of those fields of a dataclass that hold paths."""
    for name in paths:
        value = getattr(spec, name)
        if value is not None and value.startswith("~"):
            object.__setattr__(spec, name, os.path.expanduser(value))
