"""Files that are on the disk before anything relies on them, so that a power cut loses none."""

import errno
import os
from pathlib import Path

MANY = 1000  # files that take longer one by one than all that the system has to write
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)  # no system syncs everything


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
