"""Protocols by name: those that the package brings, and YAML files. Imports no torch."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

from latentdc import config
from latentdc.arguments import require_texts
from latentdc.errors import InputError
from latentdc.recipe.fields import show
from latentdc.recipe.protocol import EvalProtocol

FOLDER = "evaluate/protocols"  # of the protocols that the package brings
# Settings that say the same in different ways, of which a protocol has one.
_WAYS = ({"steps", "epochs", "epochs_of_ipc"}, {"batch", "batch_of_ipc"})


def load_protocol(
    name: str,
    *,
    students: Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
    changes: Sequence[str] = (),
) -> EvalProtocol:
    """A protocol that latentdc brings (`quick`, `ld3m`, ...) or a YAML file, with parts replaced.

    Args:
        name: of the protocol, or path of the file.
        students: networks in place of the protocol's.
        seeds: trainings per student in place of the protocol's.
        steps: budget in place of the protocol's.
        changes: other keys as `key=value`, such as `views.flip=false`; the name then says which,
            because it is no longer the protocol of that name. A budget takes the place of the
            protocol's own, in whichever of `steps`, `epochs` and `epochs_of_ipc` that is; likewise
            a batch.

    Raises:
        InputError: no such file, an unknown key, or a value that is not allowed.
    """
    if not isinstance(name, str | PathLike):
        raise InputError(f"a protocol is named, such as 'quick', or a YAML file; got {show(name)}.")
    for key, texts in {"changes": changes, "students": students}.items():
        if texts is not None:
            require_texts(texts, key)
    keys = [change.partition("=")[0] for change in changes]
    path = config.find(str(name), FOLDER)
    protocol = config.load(EvalProtocol, path, changes, without=_replaced(keys))
    if changes:
        named = ", ".join(dict.fromkeys(keys))
        protocol = replace(protocol, name=f"{protocol.name} with other {named}")
    if students is not None:
        protocol = replace(protocol, students=list(students))
    if seeds is not None:
        protocol = replace(protocol, seeds=seeds)
    if steps is not None:
        protocol = replace(protocol, steps=steps, epochs=None, epochs_of_ipc={})
    return protocol


def _replaced(keys: Sequence[str]) -> set[str]:
    """What a file says of changed keys, and in the other ways; a table is changed as a whole."""
    return {key for ways in _WAYS if not ways.isdisjoint(keys) for key in ways}
