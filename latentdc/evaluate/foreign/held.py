"""Small files that claim to hold gigabytes, refused before memory is asked for."""

import os
import zipfile
from collections.abc import Collection
from pathlib import Path

from latentdc.errors import InputError

FREE = 2**28  # bytes that any file may unpack to
MOST = 100  # times its own size that a larger one may; plain pictures of one colour reach 1000


def require_held(unpacked: int, path: Path, stored: int | None = None) -> None:
    """Refuse contents that a file of this size cannot honestly hold.

    Args:
        unpacked: bytes in memory.
        path: of the file.
        stored: bytes of the file, or of all files; None looks.

    Raises:
        InputError: says both sizes.
    """
    size = path.stat().st_size if stored is None else stored
    if unpacked > FREE and unpacked > MOST * size:
        raise InputError(
            f"{path} would unpack {size:,} bytes to {unpacked:,}; a set of images does not shrink "
            f"to less than a {MOST}th. Save it again without compression."
        )


def require_zip_held(path: Path, wanted: Collection[str] | None = None) -> None:
    """`require_held` for the members of a zip archive, which torch.save and numpy.savez write.

    Raises:
        InputError: says both sizes.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        sizes = [m.file_size for m in archive.infolist() if wanted is None or m.filename in wanted]
    require_held(sum(sizes), path, os.path.getsize(path))
