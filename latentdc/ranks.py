"""Which process this is among those that a launcher started, and what the main one tells.

Imports no torch. What is told goes to stderr, by the logger `latentdc` and as bars; results go to
stdout. The logger's level is INFO; the commands' `-q` makes it WARNING, `-v` DEBUG.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from latentdc.errors import InputError

EVERY = 30.0  # seconds between lines of progress where there is no terminal
# In Accelerate's order: what torchrun and accelerate launch set, then launchers of MPI.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")


def processes() -> int:
    """How many the launcher started, on all nodes together."""
    return max(1, _first(_SIZES))


def rank() -> int:
    """Number of this process; 0 is the main one, which alone writes and tells."""
    return max(0, _first(_RANKS)) if processes() > 1 else 0


def local_processes() -> int:
    """How many the launcher started on this node."""
    return max(1, _first(("LOCAL_WORLD_SIZE",)))


class _Stderr(logging.Handler):
    """Writes to what is stderr at the time, on the main process."""

    def emit(self, record: logging.LogRecord) -> None:
        if rank() == 0 and sys.stderr is not None:
            print(self.format(record), file=sys.stderr, flush=True)


LOG = logging.getLogger("latentdc")
if not LOG.handlers:
    LOG.addHandler(_Stderr())
    LOG.handlers[0].setFormatter(logging.Formatter("latentdc: %(message)s"))
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


def set_level(level: int) -> None:
    """Tell what is of this level of `logging` and above; without a terminal, no library's bars."""
    LOG.setLevel(level)
    if level > logging.INFO or not _terminal():
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")


def say(kind: str, message: str) -> None:
    """Print one line for the user, on the main process."""
    LOG.log(logging.WARNING if kind == "warning" else logging.INFO, "%s: %s", kind, message)


def detail(kind: str, message: str) -> None:
    """Print one line for the user who asked for more with `-v`."""
    LOG.debug("%s: %s", kind, message)


@cache
def note(message: str) -> None:
    """Say it once, on the main process, in one line."""
    say("note", message)


@cache
def warn(message: str) -> None:
    """Say it once, on the main process, in one line."""
    say("warning", message)


def progress(values: Iterable[Any] | None, title: str, *, delay: float = 0, **bar: Any) -> Any:
    """A bar of tqdm on the main process's terminal; elsewhere a line each `EVERY` seconds at most.

    Nothing with `-q` or `TQDM_DISABLE`.

    Args:
        values: to iterate over; None leaves it to the caller to `update` the bar.
        title: of the bar.
        delay: seconds that pass before anything is shown.
        bar: what else tqdm takes, such as `total`, `unit` and `leave`.
    """
    from tqdm.auto import tqdm

    off = os.environ.get("TQDM_DISABLE", "0").lower() not in ("", "0", "false")
    off = off or rank() > 0 or not LOG.isEnabledFor(logging.INFO)
    if _terminal() or "ipykernel" in sys.modules:
        return tqdm(values, title, disable=off, delay=delay, mininterval=0.5, **bar)
    plain = "{desc}: {n_fmt} of {total_fmt}{unit} in {elapsed}, {remaining} to go{postfix}"
    given = {"unit": "", **bar, "leave": True, "file": _Lines(), "bar_format": plain}
    every = {"delay": EVERY, "mininterval": EVERY, "maxinterval": max(EVERY, 10)}
    return tqdm(values, title, disable=off, **every, **given)


class _Lines:
    """A file that makes lines of what tqdm draws over what it drew before."""

    last = 0.0  # when any of them wrote a line

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line and time.monotonic() - _Lines.last >= EVERY:
            _Lines.last = time.monotonic()
            LOG.info("%s", line)

    def flush(self) -> None:
        """A line is written at once."""


def _terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


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
