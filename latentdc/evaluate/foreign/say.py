"""Lines on stderr about sets of others: the main process alone says them, each time.

Imports no torch.
"""

import os
import sys


def warn(message: str) -> None:
    """A line that a researcher has to read before the numbers."""
    _say("warning", message)


def note(message: str) -> None:
    """A line that explains."""
    _say("note", message)


def _say(kind: str, message: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"latentdc: {kind}: {message}", file=sys.stderr)
