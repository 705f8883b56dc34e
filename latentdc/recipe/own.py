"""Code of one's own, wherever a recipe takes a name: `package.module:attribute`, or the object.

Such a name ends in a hash of its module's source, which is read and not run: `mine:Net` becomes
`mine:Net#1f0c2a9b33de` in the recipe, so that caches and continued runs know one edition from
another. Only `resolve` imports, and what a stranger wrote never gets there (`refuse_names`).
Imports no torch.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, cast, get_args, get_origin
from uuid import uuid4

from latentdc.errors import InputError, in_short, nearest
from latentdc.recipe.identity import digest

Own = Annotated[str, "own"]
"""A name that latentdc knows, `package.module:attribute`, or in Python the object itself."""

_LOG = logging.getLogger("latentdc")  # whose stderr `latentdc.ranks` sets up

FORM = "package.module:attribute"
_WORD = r"[^\W\d]\w*"
_NAME = re.compile(rf"({_WORD}(?:\.{_WORD})*):({_WORD}(?:\.{_WORD})*)(?:#([0-9a-f]{{12}}))?")
_HERE = "here"  # in place of a module, of objects whose source is in no file
_OBJECTS: dict[str, object] = {}  # those that were passed as themselves, by their name
_IMPORTED: set[str] = set()  # modules of names


def is_own(name: object) -> bool:
    """Whether a name is one of a user's own code."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def name_of(value: object, as_text: Callable[[Any], str] = str) -> str:
    """The name that a setting keeps, of a name or of the object itself.

    An object that its module has under its name gets that, and data sets one that tells their
    contents; a lambda, or what a notebook's cell defines, a new name that no earlier run has, so
    that nothing kept is taken for its.

    Args:
        value: a name, or a function, class, prior or data set.
        as_text: makes a name of what is none of these, or refuses it.

    Raises:
        InputError: an object without a source, in one of several processes.
    """
    if not _is_passed(value):
        value = as_text(value)
    if isinstance(value, str):
        found = _NAME.fullmatch(value)
        if found is None or found[3] or (file := _source(found[1])) is None:
            return value
        return f"{value}#{digest(file.read_bytes())}"
    for name, thing in _OBJECTS.items():
        if thing is value:
            return name
    if (contents := _contents(value)) is not None:
        name = f"{_HERE}:{_short(value)}#{contents}"
        _OBJECTS[name] = value  # the last one of these contents
        return name
    module, attribute = (str(getattr(value, key, "")) for key in ("__module__", "__qualname__"))
    name = name_of(f"{module}:{attribute}")
    if "#" not in name or _attribute(sys.modules.get(module), attribute) is not value:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                f"{_short(value)} has no source file, by which several processes know it; put it "
                "into a module."
            )
        name = f"{_HERE}:{_short(value)}#{uuid4().hex[:12]}"
        _LOG.warning(
            "note: %s has no source file (a lambda, an instance, or a notebook's cell): what is "
            "made with it is neither reused nor continued by a later run.",
            _short(value),
        )
    _OBJECTS[name] = value
    return name


def resolve(name: str, key: str) -> Any:
    """The object of a name, imported if need be; the working folder is looked in first.

    Args:
        name: `package.module:attribute`, with or without a hash.
        key: of the recipe, for messages.

    Raises:
        InputError: no such module or attribute, a module that fails, or whose source has another
            hash than the name.
    """
    if name in _OBJECTS:
        return _OBJECTS[name]
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(f"{key} names your own code as {FORM}, got {name[:200]!r}.")
    module, attribute, edition = found.groups()
    if module == _HERE:
        raise InputError(
            f"{key}={name} stands for an object of a process that has ended; pass the object, or "
            f"write it into a module and name it as {FORM}."
        )
    if edition and name_of(f"{module}:{attribute}") not in (name, f"{module}:{attribute}"):
        raise InputError(
            f"{key}={name}: the source of {module} has changed since; write {module}:{attribute} "
            "for it as it is now, with an output of its own."
        )
    ours = module.partition(".")[0] == "latentdc"
    if not ours:
        _IMPORTED.add(module)
        if not {"", os.getcwd()} & {*sys.path}:
            sys.path.insert(0, os.getcwd())
    try:
        home = import_module(module)
    except (Exception, SystemExit) as error:  # whatever a module does
        if ours:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{key}={module}:{attribute}: cannot import {module} ({type(error).__name__}: "
            f"{reason}); modules are found in the working folder and where Python looks."
        ) from error
    finally:
        if (modes := sys.modules.get("latentdc.modes")) is not None:  # which imports torch
            modes.stay_plain()
    thing = _attribute(home, attribute)
    if thing is None:
        known = [one for one in vars(home) if not one.startswith("_")]
        defined = [o for o in known if getattr(vars(home)[o], "__module__", None) == module]
        known = defined or known
        told = ", ".join(known[:10]) or "nothing"
        raise InputError(
            f"{key}={module}:{attribute}: {module} has no {attribute}; it has {told}"
            f"{', ...' if len(known) > 10 else ''}{nearest(attribute, known) or '.'}"
        )
    return thing


def call(make: Any, key: str, name: str, /, **offered: Any) -> Any:
    """What a factory makes of those of some keyword arguments that it takes.

    Raises:
        InputError: it is no function or class, wants other arguments, or fails.
    """
    label = f"{key}={name.partition('#')[0]}"
    if not callable(make):
        raise InputError(f"{label} is a {type(make).__name__}, and a function or class is called.")
    try:
        parameters = signature(make).parameters.values()
    except (TypeError, ValueError):  # of builtins
        parameters = ()  # type: ignore[assignment]
    lacking = [
        one.name
        for one in parameters
        if one.default is Parameter.empty
        and one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and (one.name not in offered or one.kind is Parameter.POSITIONAL_ONLY)
    ]
    if lacking:
        raise InputError(
            f"{label} wants {', '.join(lacking)}; it is called with {', '.join(offered)} by name, "
            "as far as it takes them."
        )
    every = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    names = {one.name for one in parameters}
    try:
        return make(**{one: value for one, value in offered.items() if every or one in names})
    except InputError:
        raise
    except Exception as error:
        raise failed(label, "fails when it is called", error) from error


def failed(label: str, what: str, error: Exception) -> InputError:
    """The one line that tells of an error in a user's code."""
    reason = str(error).strip().partition("\n")[0]
    return InputError(
        f"{label} {what}: {type(error).__name__}: {reason} (LATENTDC_TRACEBACK=1 shows where)."
    )


def failed_at(error: BaseException) -> str | None:
    """The one line that tells of an error which came up in the module of a name; else None.

    What latentdc does when that calls it is latentdc's.
    """
    at, found = error.__traceback__, None
    while at is not None:
        module = str(at.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] == "latentdc":
            found = None
        elif module in _IMPORTED:
            found = f"{Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno}"
        at = at.tb_next
    if found is None:
        return None
    return (
        f"your own code fails ({found}): {type(error).__name__}: {in_short(error)} "
        "(LATENTDC_TRACEBACK=1 shows where)."
    )


def own_names(spec: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of a recipe, and the names of own code that stand there."""
    for field in fields(cast(Any, spec)):
        value, key = getattr(spec, field.name), prefix + field.name
        for one in value if isinstance(value, list) else [value]:
            if is_dataclass(one):
                yield from own_names(one, f"{key}.")
            elif _takes_own(field.type) and is_own(one):
                yield key, one


def refuse_names(spec: object, where: str, *, given: Sequence[str] = (), prefix: str = "") -> None:
    """Refuse names in others' recipes that would be imported.

    Args:
        spec: a recipe, or a part of it.
        where: it was found, for the message.
        given: dotted keys, or beginnings of them, that the user wrote.
        prefix: of the part's keys, with a dot at the end.
    """
    for key, name in own_names(spec, prefix):
        if not any(f"{key}.".startswith(f"{one}.") for one in given):
            raise InputError(
                f"{key}={name} in {where} names code, which is not imported from what others "
                f"share; if it is yours, write {key}=... yourself, or --recipe FILE."
            )


def _is_passed(value: Any) -> bool:
    """Whether a function, a prior, a data set or its two splits stand in place of their name."""
    parts = value if isinstance(value, list | tuple) else [value]
    if parts and all(hasattr(one, "class_names") for one in parts):  # which data sets have
        return True
    return callable(value) or hasattr(value, "latent_shape")  # which priors have


def _takes_own(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return bool(kind == Own)
    return any(map(_takes_own, get_args(kind)))


def _attribute(home: ModuleType | None, path: str) -> object:
    thing: object = home
    for part in path.split("."):
        thing = getattr(thing, part, None)
    return thing


def _source(module: str) -> Path | None:
    """The file of a module; nothing is imported, packages above it neither."""
    file: str | None = None
    if (loaded := sys.modules.get(module)) is not None:
        file = getattr(loaded, "__file__", None)
    else:
        places: Any = [os.getcwd(), *sys.path]
        parts = module.split(".")
        for count in range(len(parts)):
            spec = None
            for finder in sys.meta_path:
                try:
                    spec = spec or finder.find_spec(".".join(parts[: count + 1]), places)
                except (AttributeError, ImportError):
                    continue
            if spec is None:
                return None
            places, file = spec.submodule_search_locations, spec.origin
            if places is None and count + 1 < len(parts):
                return None
    path = Path(file) if file and file.endswith(".py") else None
    return path if path is not None and path.is_file() else None


def _contents(value: object) -> str | None:
    """12 hex digits of what a data set, or each of two splits, holds; None of anything else."""
    parts = value if isinstance(value, list | tuple) else [value]
    hashes = [getattr(one, "hash", None) for one in parts if hasattr(one, "class_names")]
    if len(hashes) < max(1, len(parts)) or not all(isinstance(one, str) for one in hashes):
        return None
    return digest(repr(hashes).encode())


def _short(value: object) -> str:
    first = value[0] if isinstance(value, list | tuple) else value  # of a data set's two splits
    name = str(
        getattr(first, "__qualname__", "") or getattr(first, "name", "") or type(first).__name__
    )
    return re.sub(r"\W+", "_", name.rpartition(".")[2]).strip("_") or "object"
