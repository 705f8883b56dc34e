"""One command at a time in a folder: a lock that names its owner to the others."""

import errno
import json
import os
import shlex
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from latentdc import ranks
from latentdc.errors import InputError, is_full
from latentdc.plain_text import printable

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)  # of some network file systems
_LONGEST = 220  # bytes of a folder's name within those beside it, which may have 255


class InUse(InputError):
    """Another command is at work in a folder."""


@contextmanager
def locked(
    *paths: Path,
    wait: bool = False,
    every_process: bool = False,
    advice: str = "name another folder",
) -> Iterator[None]:
    """Keep other commands out of folders, or away from files, while the block runs.

    The lock names its owner to the others. It lies beside the folder, so that a refused command
    leaves nothing inside; or inside, where the folder above is closed to us or on another disk. The
    system lets go of it when its owner ends, by SIGKILL too.

    Args:
        paths: of folders or files, which need not exist.
        wait: for the owner, instead of raising.
        every_process: of a launch takes the lock, one after the other if `wait`; else the main
            process alone takes it for all.
        advice: what to do where the lock cannot be written.

    Raises:
        InUse: another command is at work in one of them; the line says which, and since when.
        InputError: the lock cannot be written.
    """
    with ExitStack() as stack:
        if every_process or ranks.rank() == 0:
            for path in dict.fromkeys(_place(path, advice) for path in paths):
                stack.enter_context(_locked(path, wait, advice))
        yield


@contextmanager
def _locked(folder: Path, wait: bool, advice: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path, mark = _beside(folder, "lock"), _beside(folder, "owner")
    made = [parent for parent in path.parents if not os.path.exists(parent)]
    lock = FileLock(path)
    try:
        while not (lock.is_locked and path.exists()):  # its former owner may just have removed it
            lock.release()
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.touch()
            except FileNotFoundError:  # below /proc, where filelock would wait for ever
                if path.parent.exists():
                    raise
                continue  # another command has just removed the empty folder
            lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise InUse(
            f"{folder} is in use by {_named(lock_owner(folder))}; wait until that has ended, or "
            "name another folder."
        ) from error
    except (OSError, NotImplementedError) as error:
        if is_full(error):
            raise
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            place = printable(path.parent)[:200]
            raise InputError(f"cannot write to {place}: {error.strerror}; {advice}.") from error
    part = mark.with_name(f"{mark.name}.part")
    try:
        part.write_text(json.dumps(_this_command()), encoding="utf-8")
        part.replace(mark)
        yield
    finally:
        for file in (part, mark, path):
            with suppress(OSError):  # Windows removes no open file
                file.unlink(missing_ok=True)
        lock.release()
        for parent in made:
            with suppress(OSError):  # something was written
                parent.rmdir()


def lock_owner(folder: Path) -> dict[str, str] | None:
    """Host, process, command and start of the command that holds a folder, as far as it is told."""
    mark = _beside(Path(os.path.realpath(folder)), "owner")
    try:
        return dict(json.loads(mark.read_text(encoding="utf-8"))) if mark.is_file() else None
    except (OSError, ValueError, TypeError):
        return None


def _place(folder: Path, advice: str) -> Path:
    """Where a folder lies, or will be made, links followed."""
    try:
        if not folder.is_symlink() or folder.exists():
            return folder.resolve()
    except OSError as error:  # a name that is too long
        place = printable(folder)[:200]
        raise InputError(f"cannot write to {place}: {error.strerror}; {advice}.") from error
    except RuntimeError:  # links in a circle
        pass
    raise InputError(
        f"{folder} is a link to {os.readlink(folder)}, which does not exist; make that folder, or "
        "name another one."
    )


def _beside(folder: Path, kind: str) -> Path:
    above = folder.parent
    # Others, in containers or on other nodes, may see what is mounted here under another folder.
    inside = os.path.ismount(folder) or (above.exists() and not os.access(above, os.W_OK))
    return folder / f".{kind}" if inside else above / f".{_short(folder.name)}.{kind}"


def _short(name: str) -> str:
    """A name that leaves room for what locks add to it."""
    whole = os.fsencode(name)
    cut = whole[:_LONGEST].decode(errors="ignore")
    return name if len(whole) <= _LONGEST else f"{cut}-{zlib.crc32(whole):08x}"


def _named(command: dict[str, str] | None) -> str:
    if command is None:
        return "another command"
    of = {name: command.get(name, "?") for name in ("command", "process", "host", "since")}
    return f"`{of['command']}` (process {of['process']} on {of['host']}, since {of['since']})"


def _this_command() -> dict[str, str]:
    line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "command": line if len(line) < 200 else f"{line[:200]}...",
        "process": str(os.getpid()),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
