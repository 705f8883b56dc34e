"""Arguments of the public functions that are no settings: one line where one is something else."""

from numbers import Integral
from os import PathLike
from pathlib import Path

from latentdc.errors import InputError
from latentdc.typed import show


def require_a(kind: type, value: object, name: str, hint: str) -> None:
    """Refuse an argument of another class.

    Args:
        kind: its class.
        value: of the argument.
        name: of the argument.
        hint: where such a thing comes from.

    Raises:
        InputError: it has another.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{name} is {article} {kind.__name__}, got {_what(value)}; {hint}.")


def require_able(methods: str, value: object, name: str, hint: str) -> None:
    """Refuse an argument that lacks one of some attributes, whose names are divided by spaces.

    Raises:
        InputError: it lacks one.
    """
    lacking = [method for method in methods.split() if not hasattr(value, method)]
    if lacking or isinstance(value, type):
        lacks = f", which has no {lacking[0]}" if lacking else ""
        raise InputError(f"{name} is {hint}, got {_what(value)}{lacks}.")


def require_whole(value: object, name: str) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        raise InputError(f"{name} is a whole number of at least 1, got {show(value)}.")


def folder_of(value: str | PathLike[str] | None, name: str) -> Path | None:
    """A folder that may be given as text.

    Raises:
        InputError: it is neither text nor a path.
    """
    if value is not None and not isinstance(value, str | PathLike):
        raise InputError(f"{name} is a folder, got {_what(value)}.")
    return None if value is None else Path(value)


def require_texts(value: object, name: str) -> None:
    """Refuse what is no sequence of texts; a single text is none.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        hint = f"; write [{value!r}]" if isinstance(value, str) else ""
        raise InputError(f"{name} is a list of texts, got {show(value)}{hint}.")


def _what(value: object) -> str:
    """A value in few words."""
    if value is None or isinstance(value, str | int | float):
        return show(value)
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
