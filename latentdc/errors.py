"""The two ways in which a command ends early, told in one line each, and words of such lines."""

import difflib
import errno
from collections.abc import Iterable
from typing import TypeVar


class InputError(ValueError):
    """What the user gave cannot be used: exit code 2, nothing was written or lost.

    The message says what came, what is allowed and what to do.

    Attributes:
        everywhere: whether all processes raise it together, so that the main one tells it alone.
    """

    everywhere = False


class RunError(RuntimeError):
    """A run that began well cannot go on (NaN loss): exit code 1, the last state is kept.

    Attributes:
        everywhere: as of `InputError`.
    """

    everywhere = False


class Stopped(RunError):
    """A run was asked to end (SIGTERM) and has kept its state: exit code 143."""


Error = TypeVar("Error", InputError, RunError, Stopped)


def everywhere(error: Error) -> Error:
    """An error that all processes are about to raise together."""
    error.everywhere = True
    return error


def is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error, which the command tells in its own words."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing where no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def in_short(error: BaseException, length: int | None = 200) -> str:
    """What an error says, in one line of so many characters; None takes all of them."""
    return " ".join(str(error).split())[:length]


def first_line(error: BaseException) -> str:
    """What an error says first, where libraries go on for pages."""
    return str(error).strip().partition("\n")[0]


def counted(count: int, name: str) -> str:
    """A whole number and what it counts, `1 class` or `2 classes`."""
    return f"{count:,} {name}" + ("" if count == 1 else "es" if name.endswith("s") else "s")
