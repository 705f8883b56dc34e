"""The two ways in which a command ends early, each told to the user in one line."""

import errno
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


Error = TypeVar("Error", InputError, RunError)


def everywhere(error: Error) -> Error:
    """An error that all processes are about to raise together."""
    error.everywhere = True
    return error


def is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error, which the command tells in its own words."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
