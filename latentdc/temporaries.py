"""Temporary names beside a path that is written, and which of them a killed process left.

Processes of several machines and containers, whose numbers may be the same, write into one shared
folder. Imports no torch.
"""

import glob
import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_ABANDONED = 3600.0  # seconds since the last byte of what a process elsewhere writes no more
_LONGEST = 220  # bytes of a path's name within a temporary one, which may have 255
_begun: set[str] = set()  # names of what this process is writing


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A path beside `path` that nobody else writes; what is there when the block ends is removed.

    What killed processes left beside `path` is removed before.
    """
    stem = f".{os.fsencode(path.name)[:_LONGEST].decode(errors='ignore')}."
    for left in path.parent.glob(f"{glob.escape(stem)}*.part"):
        if _is_left(left, left.name.removeprefix(stem)):
            _remove(left)
    part = path.with_name(f"{stem}{_machine()}-{os.getpid()}-{secrets.token_hex(3)}.part")
    _begun.add(part.name)
    try:
        yield part
    finally:
        _remove(part)
        _begun.discard(part.name)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()


def _is_left(part: Path, end: str) -> bool:
    """Whether nobody writes it: its process has ended, or it is old where that cannot be told.

    A process that began long after the last byte has the number of the one that wrote.
    """
    writer = re.fullmatch(r"([0-9a-f]{6})-(\d+)-[0-9a-f]{6}\.part", end)
    if writer is None:
        return False
    process = int(writer[2])
    since: float | None = None
    if writer[1] == _machine():
        if process == os.getpid():
            return part.name not in _begun  # of an earlier process of that number
        import psutil

        try:
            since = psutil.Process(process).create_time()
        except psutil.NoSuchProcess:  # of numbers that are too large for one too
            return True
        except psutil.AccessDenied:  # it lives
            return False
    try:
        latest = max(one.lstat().st_mtime for one in (part, *part.rglob("*")))
        since = _now(part.parent) if since is None else since
    except OSError:  # its writer is just renaming it, or the disk is full
        return False
    return since - latest > _ABANDONED


def _now(folder: Path) -> float:
    """The time by the clock that dates files in a folder, which may be another machine's."""
    probe = folder / f".{_machine()}-{os.getpid()}-{secrets.token_hex(3)}.clock"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """6 hex digits, the same for processes that see each other's numbers."""
    facts = [socket.gethostname()]
    with suppress(OSError):  # of Linux
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        facts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return f"{zlib.crc32(repr(facts).encode()):08x}"[:6]
