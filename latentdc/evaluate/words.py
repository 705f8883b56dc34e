"""Words of a command line that name protocols and change them. Imports no torch."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from latentdc import config
from latentdc.errors import InputError
from latentdc.recipe.fields import Plain


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What a command line names, and its overrides `key=value`; a path that exists is a name."""
    named = ["=" not in word or os.path.exists(os.path.expanduser(word)) for word in words]
    pairs = list(zip(words, named, strict=True))
    return [word for word, name in pairs if name], [word for word, name in pairs if not name]


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
    """Refuse names of protocols that are empty or stand twice.

    Raises:
        InputError: says what is allowed.
    """
    if "" in names or len(set(names)) < len(names):
        known = sorted(p.stem for p in config.shipped_folder("evaluate/protocols").glob("*.yaml"))
        raise InputError(
            f"protocol= takes different names, such as protocol=[quick,rdc-hard], got {names}; "
            f"latentdc brings {', '.join(known)}."
        )
