"""Protocols by name: those that the package brings, YAML files, and the words that change them.

Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from latentdc import arguments, config
from latentdc.errors import InputError
from latentdc.recipe.evaluate import Evaluate, said_by
from latentdc.recipe.fields import Plain, show
from latentdc.recipe.own import name_of
from latentdc.recipe.protocol import EvalProtocol

_FOLDER = "evaluate/protocols"  # of the protocols that the package brings
# Settings that say the same in different ways, of which a protocol has one.
_WAYS = ({"steps", "epochs", "epochs_of_ipc"}, {"batch", "batch_of_ipc"})


def load_protocol(
    name: str,
    *,
    students: Sequence[str] | None = None,
    seeds: int | None = None,
    together: int | None = None,
    steps: int | None = None,
    changes: Sequence[str] = (),
) -> EvalProtocol:
    """A protocol that latentdc brings (`quick`, `ld3m`, ...) or a YAML file, with parts replaced.

    Args:
        name: of the protocol, or path of the file.
        students: networks in place of the protocol's; names, or what makes an `nn.Module`.
        seeds: trainings per student in place of the protocol's.
        together: seeds that are trained side by side in place of the protocol's.
        steps: budget in place of the protocol's.
        changes: other keys as `key=value`, such as `views.flip=false`; the name then says which,
            because it is no longer the protocol of that name. A budget takes the place of the
            protocol's own, in whichever of `steps`, `epochs` and `epochs_of_ipc` that is; likewise
            a batch.

    Raises:
        InputError: no such file, an unknown key, or a value that is not allowed.

    Examples:
        >>> protocol = latentdc.load_protocol("quick", seeds=5, changes=["lr=0.02"])
        >>> protocol.name, protocol.seeds
        ('quick with other lr', 5)
    """
    if not isinstance(name, str | PathLike):
        raise InputError(f"a protocol is named, such as 'quick', or a YAML file; got {show(name)}.")
    if isinstance(students, list | tuple):
        students = [name_of(one) if callable(one) else one for one in students]
    for key, texts in {"changes": changes, "students": students}.items():
        if texts is not None or key == "changes":
            arguments.require_texts(texts, key, functions=key == "students")
    parts: dict[str, Any] = {"students": students, "seeds": seeds, "together": together}
    for key, same in said_by(changes).items():
        if (parts | {"steps": steps}).get(key) is not None:
            raise InputError(f"{key} and changes=[{same}=...] say the same; give one of them.")
    keys = [change.partition("=")[0] for change in changes]
    path = config.find(str(name), _FOLDER)
    replaced = {key for ways in _WAYS if not ways.isdisjoint(keys) for key in ways}
    if steps is not None:  # before the whole is checked
        changes, replaced = [*changes, f"steps={show(steps)}"], replaced | _WAYS[0]
    protocol = config.load(EvalProtocol, path, changes, without=replaced)
    if named := ", ".join(key for key in dict.fromkeys(keys) if key != "together"):
        protocol = replace(protocol, name=f"{protocol.name} with other {named}")
    given = {key: value for key, value in parts.items() if value is not None}
    return replace(protocol, **given)


def recipe_protocol(
    wanted: Evaluate, name: str | None = None, changes: Sequence[str] = ()
) -> EvalProtocol:
    """The protocol as a recipe changes it, or another one with its students, seeds and steps.

    To another one, by its `name`, `wanted.changes` do not apply; `changes` are further keys, as of
    `load_protocol`, which take the place of what the recipe says.
    """
    said = said_by(changes)
    if wanted.learned_lr and "learned_lr" in said:
        raise InputError(
            f"evaluate.learned_lr=true and protocol.{said['learned_lr']} say the same; add "
            "evaluate.learned_lr=false."
        )
    own = wanted.changes if name in (None, wanted.protocol) else []
    keys = ("students", "seeds", "together", "steps")
    return load_protocol(
        name or wanted.protocol,
        changes=[*(one for one in own if said.keys().isdisjoint(said_by([one]))), *changes],
        **{key: getattr(wanted, key) for key in keys if key not in said},
    )


def protocol_words(overrides: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of protocols, changes of their keys, and the overrides of the recipe.

    `protocol=rdc-hard` and `protocol=[quick,rdc-hard]` name protocols, `protocol.epochs=30` changes
    a key (see `changes_for`).
    """
    names: list[str] = []
    changes, others = [], []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "protocol":
            names += _named(value)
        elif key.startswith("protocol."):
            changes.append(override.removeprefix("protocol."))
        else:
            others.append(override)
    return names, changes, others


def _named(text: str) -> list[str]:
    """One name, or several in brackets, with or without quotes; commas alone divide them too."""
    try:
        tree = config.parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"cannot read protocol={text}: {config.reason(error)}.") from error
    named = tree.split(",") if isinstance(tree, Plain) else tree
    named = named if isinstance(named, list) else [named]
    if not all(isinstance(name, str) for name in named):
        raise InputError(f"protocol= takes names, such as protocol=[quick,rdc-hard], got {text}.")
    return [name.strip() for name in named] or [""]


def changes_for(name: str, names: Sequence[str], changes: Sequence[str]) -> list[str]:
    """The changes of one of several protocols: those of all, and those that name it alone.

    `protocol.epochs=30` changes every protocol, `protocol.rdc-soft.labels.temperature=4` that one.
    """
    own = Path(name).stem
    others = {Path(other).stem for other in names} - {own}
    return [c.removeprefix(f"{own}.") for c in changes if c.partition(".")[0] not in others]


def check_names(names: Sequence[str]) -> None:
    """Refuse names of protocols that are empty or stand twice."""
    if "" in names or len(set(names)) < len(names):
        raise InputError(
            f"protocol= takes different names, such as protocol=[quick,rdc-hard], got {names}; "
            f"latentdc brings {', '.join(sorted(config.shipped_files(_FOLDER)))}."
        )
