"""The two ways in which a command ends early, each told to the user in one line."""


class InputError(ValueError):
    """What the user gave cannot be used: exit code 2, nothing was written or lost.

    The message says what came, what is allowed and what to do.
    """


class RunError(RuntimeError):
    """A run that began well cannot go on (NaN loss): exit code 1, the last state is kept."""
