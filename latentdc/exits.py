"""How a command ends: every error that a user can meet is one line and an exit code.

Imports no torch.
"""

import errno
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NoReturn

from latentdc import ranks
from latentdc.errors import InputError, RunError, Stopped
from latentdc.plain_text import on_terminal

TOGETHER = 5.0  # seconds in which a launcher ends the others, where one has told of its error
EXIT = {"input": 2, "run": 1, "interrupt": 130, "closed pipe": 141, "stopped": 143}
_UNMAPPED = "failed to map segment from shared object"  # of a library, where memory is limited
TRACEBACK = "LATENTDC_TRACEBACK"  # set, it shows where an error comes from


def exits(work: Callable[[], None]) -> None:
    """Run a command's work; end with one line and the right code where it cannot go on.

    2: the input cannot be used. 1: the run broke (NaN, full disk, no memory). 130: interrupted.
    141: nobody reads what it prints. 143: asked to end (SIGTERM), with its state kept. Errors
    of our own making, and not of the user's code, keep their traceback.
    """
    # Torch is not loaded yet. Its threads would spin while they wait, and where another process
    # computes too, that makes two threads many times slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _print_any_alphabet()
    try:
        try:
            ranks.check()
            work()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # a user's code may exit too
        told = _told(error)
        if told is None:
            raise
        if os.environ.get(TRACEBACK):
            if not isinstance(error, SystemExit):
                raise
            traceback.print_exception(error)  # which Python would not, and its code may be 0
        if ranks.rank() > 0 or _process_lost(error):
            with suppress(KeyboardInterrupt):  # a launcher that is interrupted passes it on
                time.sleep(TOGETHER)  # where the main one tells the same, this one is ended then
        _leave(*told)


def _print_any_alphabet() -> None:
    """Print what the terminal's alphabet lacks as its code, in place of ending there."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # a stream of a test's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _told(error: BaseException) -> tuple[str, int] | None:
    """The line and exit code of an error that is not of our own making; "" tells nothing."""
    if isinstance(error, InputError | RunError):
        code = EXIT["input" if isinstance(error, InputError) else "run"]
        code = EXIT["stopped"] if isinstance(error, Stopped) else code
        return "" if error.everywhere and ranks.rank() > 0 else str(error), code
    everything = list(_chain(error, implied=True))
    again = "finished files are whole, start again"
    if any(isinstance(one, KeyboardInterrupt) for one in everything):
        told = f"interrupted; {again} to go on."  # all processes are, and the main one tells it
        return "" if ranks.rank() > 0 else told, EXIT["interrupt"]
    if any(map(_disk_full, everything)):
        return f"the disk is full; {again} after making room.", EXIT["run"]
    for one in _chain(error, implied=False):
        text = str(one).strip().partition("\n")[0]
        if isinstance(one, BrokenPipeError) and _unread():
            return "", EXIT["closed pipe"]
        if _gpu_full(one):
            return (
                f"the GPU's memory is full ({text[:200]}); take smaller batches, or for a "
                "distillation prior.memory=low, prior.chunk=1 or distill.classes_per_step.",
                EXIT["run"],
            )
        if isinstance(one, ImportError) and _UNMAPPED in text and "not permitted" not in text:
            return f"there is not enough memory for {text[:200]}; allow more (ulimit -v).", EXIT[
                "run"
            ]
        if _memory_full(one):
            return (
                f"there is not enough memory ({text[:200] or 'MemoryError'}); take less data at a "
                "time: smaller batches, ipc or resolution, fewer processes.",
                EXIT["run"],
            )
        if isinstance(one, UnicodeEncodeError):
            return (
                f"this locale cannot write {one.object[one.start]!a}; set PYTHONUTF8=1, or a UTF-8 "
                "locale.",
                EXIT["input"],
            )
        if isinstance(one, RuntimeError) and "home directory" in text:
            return "a path begins with the ~ of a user who has no home here.", EXIT["input"]
        if isinstance(one, RuntimeError | ImportError) and os.strerror(errno.EMFILE) in text:
            return f"{text[:200]}; allow more open files (ulimit -n).", EXIT["run"]
        if _process_lost(one):
            told = f"another process has ended, or cannot be reached ({text[:200]}); {again}."
            return told, EXIT["run"]
        if isinstance(one, FileNotFoundError) and not _in_a_folder():
            return "the working folder is gone; change to one that is there.", EXIT["input"]
        if isinstance(one, OSError):
            return _of_system(one), EXIT["run"]
    from latentdc.recipe.own import failed_at

    own = failed_at(error)
    return None if own is None else (own, EXIT["run"])


def _chain(error: BaseException | None, *, implied: bool) -> Iterator[BaseException]:
    """An error, what it was raised from, and if wanted what was being handled as it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        context = error.__context__ if implied else None
        error = error.__cause__ or context


def _disk_full(error: BaseException) -> bool:
    """Whether it says that a disk is full; torch and safetensors say so in words only."""
    code = error.errno if isinstance(error, OSError) else None
    return code in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)


def _gpu_full(error: BaseException) -> bool:
    words = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _memory_full(error: BaseException) -> bool:
    words = ("can't allocate memory", os.strerror(errno.ENOMEM))
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError | RuntimeError) and any(word in str(error) for word in words)
    )


def _process_lost(error: BaseException) -> bool:
    """Whether a collective failed for want of a process, which tells of itself."""
    kinds = ("DistBackendError", "DistNetworkError", "DistStoreError")
    return type(error).__name__ in kinds or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _of_system(error: OSError) -> str:
    """What the system says of a file, or a library in its name, and what to do."""
    hints = {
        errno.EACCES: "; name a place that is open to you",
        errno.EPERM: "; name a place that is open to you",
        errno.EROFS: "; name a place that can be written, such as output=...",
        errno.EFBIG: "; allow larger files (ulimit -f), or name another disk",
        errno.ENAMETOOLONG: "; take a shorter name",
        errno.EMFILE: "; allow more open files (ulimit -n)",
    }
    said = error.strerror or str(error).strip().partition("\n")[0] or type(error).__name__
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    named = ", ".join(name if len(name) < 200 else f"{name[:200]}..." for name in files)
    return f"{named}{': ' if named else ''}{said}{hints.get(error.errno or 0, '')}."


def _in_a_folder() -> bool:
    """Whether the working folder is there: what is named from it can be found."""
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


def _unread() -> bool:
    """Whether nobody reads what is printed: `latentdc ... | head`."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a stream of a test's own, or a system without poll
            pipe = select.poll()
            pipe.register(stream.fileno(), 0)
            if any(event & select.POLLERR for _, event in pipe.poll(0)):
                return True
    return False


def _leave(message: str, code: int) -> NoReturn:
    """End with a line that names the process, where there are several, and with a code."""
    rank = ranks.rank()
    with suppress(Exception):
        for bar in list(getattr(sys.modules.get("tqdm.std"), "tqdm")._instances):  # noqa: B009
            bar.close()
    if message:
        start, where = "latentdc: error: ", ""
        if ranks.processes() > 1:  # another one's progress may stand in the line
            start, where = f"\n{start}", f"rank {rank}: "
        with suppress(OSError):
            line = on_terminal(" ".join(message.split()))
            print(f"{start}{where}{line}", file=sys.stderr, flush=True)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # the interpreter would try once more, and complain
        with suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    group = sys.modules.get("torch.distributed")
    if group is not None and group.is_initialized():
        os._exit(code)  # threads of the group would wait for processes that wait for this one
    sys.exit(code)
