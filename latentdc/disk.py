"""Files that are on the disk before anything relies on them, and that are read without waiting."""

import errno
import filecmp
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MANY = 1000  # files that take longer one by one than all that the system has to write
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)  # no system syncs everything


def require_file(path: Path) -> None:
    """Refuse a folder, pipe or device in the place of a file: a pipe would be waited for.

    Raises:
        OSError: it is one; of what does not exist, only opening it tells.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it is no JSON in UTF-8, or is nested beyond all sense.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("lists and keys are too deep inside each other") from error


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk.

    Raises:
        OSError: they cannot be written: the disk is full or broken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # folders on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """`sync` a folder and everything in it."""
    paths = [*folder.rglob("*"), folder]
    if len(paths) > MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        sync(path)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` when the block ends well.

    A folder that is the same already is left untouched. An error in the block removes what it wrote
    and leaves the older folder as it was. At any moment one of both is there whole, the older one
    perhaps moved aside, from where the next look or save puts it back.
    """
    put_back(folder)
    folder = folder.resolve()
    part, old = folder.with_name(f".{folder.name}.part"), _aside(folder)
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        if not _same(part, folder):
            sync_all(part)
            _exchange(part, folder, old)
            sync(folder.parent)
    finally:
        put_back(folder)
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(part: Path, folder: Path, old: Path) -> None:
    for last in (False, True):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            part.rename(folder)
            return
        except OSError:
            if last or not folder.exists():
                raise  # else someone looked between the renames, and put the older one back


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def put_back(folder: Path) -> None:
    """Undo the first of two renames where the second did not come."""
    with suppress(OSError, ValueError):  # a name that cannot be one, a place that cannot be written
        folder = folder.resolve()
        if not folder.exists() and _aside(folder).is_dir():
            _aside(folder).rename(folder)


def _same(one: Path, other: Path) -> bool:
    """Whether both folders hold the same files, byte by byte."""
    names = [sorted(p.relative_to(top) for p in top.rglob("*")) for top in (one, other)]
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, other / name, shallow=False)
        for name in names[0]
        if not (one / name).is_dir()
    )
