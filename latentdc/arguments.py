"""Arguments of the public functions that are no settings: one line where one is something else."""

import json
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdc.errors import InputError
from latentdc.recipe.fields import show

if TYPE_CHECKING:
    from torch import Tensor


_MOST = 10**9  # whole numbers beyond it are slips


def require_a(kind: type, value: object, name: str, hint: str) -> None:
    """Refuse an argument of another class."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {_article(kind)}, got {_what(value)}; {hint}.")


def require_kinds(spec: object, name: str, **kinds: Any) -> None:
    """Refuse fields of a dataclass whose values are not of the classes, such as `str | None`."""
    for key, kind in kinds.items():
        value = getattr(spec, key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            told = getattr(kind, "__name__", str(kind))
            raise InputError(f"{key} of {name} is {told}, got {_what(value)}.")


def require_able(methods: str, value: object, name: str, hint: str) -> None:
    """Refuse an argument that lacks one of some attributes, whose names are divided by spaces."""
    lacking = [method for method in methods.split() if not hasattr(value, method)]
    if lacking or isinstance(value, type):
        lacks = f", which has no {lacking[0]}" if lacking else ""
        raise InputError(f"{name} is {hint}, got {_what(value)}{lacks}.")


def require_whole(value: object, name: str, *, least: int = 1, most: float = math.inf) -> int:
    """A whole number from `least` to `most`, such as one of NumPy, as Python's."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Integral)
        or not least <= int(value) <= most
    ):
        allowed = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise InputError(f"{name} is a whole number {allowed}, got {show(value)}.")
    if int(value) > _MOST:
        raise InputError(f"{name} is at most {_MOST:,}, got {show(value)}.")
    return int(value)


def require_shares(values: Any, count: int, name: str) -> tuple[float, ...]:
    """As many shares in [0, 1], such as numbers of NumPy or a tensor of torch, as Python's."""
    values = values.tolist() if hasattr(values, "tolist") else values
    listed = values if isinstance(values, list | tuple) else [values]
    found = [one.item() if hasattr(one, "item") else one for one in listed]
    strange = [
        one
        for one in found
        if not isinstance(one, int | float) or isinstance(one, bool) or not 0 <= one <= 1  # nor NaN
    ]
    if strange or len(found) != count or not found:
        got = show(strange[0]) if strange else f"{len(found)} for {count} sets"
        raise InputError(
            f"{name} are shares in [0, 1], one for each seed's set, got {got}; for 50 % write 0.5."
        )
    return tuple(map(float, found))


def require_seed(value: object) -> int:
    """A seed of draws, such as a number of NumPy, as Python's."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise InputError(f"seed takes a whole number, got {show(value)}.")
    if not 0 <= int(value) < 2**63:
        raise InputError(f"seed is at least 0 and below 2^63, got {show(value)}.")
    return int(value)


def folder_of(value: str | PathLike[str] | None, name: str) -> Path | None:
    """`path_of`, or None."""
    return None if value is None else path_of(value, name)


def path_of(value: str | PathLike[str], name: str) -> Path:
    """A folder or file that may be given as text, `~` being the user's own."""
    if not isinstance(value, str | PathLike):
        raise InputError(f"{name} is a path, got {_what(value)}.")
    if "\0" in str(value):
        raise InputError(f"{name} is a path, and {show(str(value))} holds a character of none.")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # ~ of somebody there is none of
        raise InputError(
            f"{name} is {show(str(value))}, which begins with no user's home; write its whole path."
        ) from error


def refuse_broken_link(path: Path, what: str, other: str = "name another place") -> None:
    """Refuse a path that is, or lies below, a link to nothing, and is not looked up on the Hub.

    `what` it is the place of, and what else than to mend the link can be done, are told.
    """
    for place in (path, *path.parents):
        if os.path.islink(place) and not os.path.exists(place):
            raise InputError(
                f"{what}: {place} is a link to {os.readlink(place)}, which does not exist; mend "
                f"the link, or {other}."
            )


def require_texts(value: object, name: str, *, functions: bool = False) -> None:
    """Refuse what is no sequence of texts; a single text is none.

    `functions` says whether the argument takes functions in place of texts.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        one = repr(value) if isinstance(value, str) else None
        one = getattr(value, "__name__", None) if functions and one is None else one
        hint = f"; write [{one}]" if one else ""
        raise InputError(f"{name} is a list of texts, got {show(value)}{hint}.")


def one_form(name: str) -> str:
    """A class name with accents as one character each; macOS writes them as two in file names."""
    return unicodedata.normalize("NFC", name)


def class_names_of(value: object, what: str) -> tuple[str, ...]:
    """Names of classes in label order, also those of an array of NumPy; all different, in NFC."""
    value = value.tolist() if hasattr(value, "tolist") else value
    require_texts(value, f"{what}: class_names")
    assert isinstance(value, list | tuple)
    for name in value:
        if name.encode("utf-8", "replace").decode() != name:
            raise InputError(
                f"{what}: the class name {ascii(name)[:80]} is no UTF-8; write another."
            )
    names = tuple(one_form(str(name)) for name in value)
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{what}: class names are all different, got {twice!r} twice.")
    return names


def require_several(class_names: Sequence[str], source: str) -> None:
    """Refuse a single class, which a classifier of it would name without a look."""
    if len(class_names) < 2:
        raise InputError(
            f"{source} has the single class {list(class_names)}; a classifier needs two or more."
        )


def picked_rows(rows: object, name: str, count: int) -> "Tensor":
    """(M,) indices of some of `count` samples, of a mask too; `name` as "the set: rows"."""
    import torch

    told, found = "", torch.empty(())
    try:
        # NumPy takes whole numbers of any width, torch some of them for a mask.
        taken: Any = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else rows
        taken = list(taken) if isinstance(taken, tuple) else taken  # else one index of each axis
        found = torch.as_tensor(torch.arange(count).numpy()[taken])
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        told = f": {str(error).partition(chr(10))[0]}"
    if found.ndim != 1:
        raise InputError(
            f"{name} are whole numbers (M,) of its {count} samples, such as torch.tensor([0, 2]), "
            f"got {show(rows)}{told}."
        )
    return found


def require_json(value: object, name: str, *, allow_nan: bool = False) -> None:
    """Refuse what is no mapping that JSON holds."""
    if not isinstance(value, Mapping):
        raise InputError(f"{name} maps texts to what JSON holds, got {_what(value)}.")
    try:
        json.dumps(dict(value), allow_nan=allow_nan)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} maps texts to what JSON holds: {error}.") from error


def _what(value: object) -> str:
    """A value in few words."""
    if value is None or isinstance(value, str | int | float):
        return show(value)
    return f"the class {value.__name__}" if isinstance(value, type) else _article(type(value))


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"
