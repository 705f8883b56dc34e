"""Which process this is among those that a launcher started, before torch is imported."""

import os
import sys
from functools import cache

from latentdc.errors import InputError

# In Accelerate's order: what torchrun and accelerate launch set, then launchers of MPI.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")


def processes() -> int:
    """How many the launcher started, on all nodes together."""
    return max(1, _first(_SIZES))


def rank() -> int:
    """Of this process among them; 0 is the main one, which alone writes and tells."""
    return max(0, _first(_RANKS)) if processes() > 1 else 0


def local_processes() -> int:
    """How many the launcher started on this node."""
    return max(1, _first(("LOCAL_WORLD_SIZE",)))


def say(kind: str, message: str) -> None:
    """Print one line for the user, on the main process."""
    if rank() == 0:
        print(f"latentdc: {kind}: {message}", file=sys.stderr, flush=True)


@cache
def note(message: str) -> None:
    """Say it once, on the main process, in one line."""
    say("note", message)


@cache
def warn(message: str) -> None:
    """Say it once, on the main process, in one line."""
    say("warning", message)


def check() -> None:
    """Refuse variables that no launcher sets so."""
    for name in (*_RANKS, *_SIZES, *_LOCAL):
        value = os.environ.get(name)
        if value is not None and _number(value) is None:
            raise InputError(
                f"the environment variable {name} is {value!r}, which is no whole number; unset "
                "it, or leave it to torchrun or accelerate launch."
            )


def _first(names: tuple[str, ...]) -> int:
    numbers = (_number(os.environ[name]) for name in names if name in os.environ)
    return next((number for number in numbers if number is not None and number >= 0), -1)


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
