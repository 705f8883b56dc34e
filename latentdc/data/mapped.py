"""Samples of a file that is larger than memory: a view, read row by row when indexed."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

_CHUNK = 2**20  # bytes


@dataclass(frozen=True, eq=False)
class MappedImages:
    """Some rows of a memory-mapped tensor, in an order of their own.

    Used where a tensor of images is: it has the shape and the size of one, and an index gives one.

    Attributes:
        source: the whole file: (N, 3, H, W) uint8, or vectors (N, D) of floats.
        rows: (M,) rows of the file that stand here; None for all of them.
    """

    source: Tensor
    rows: Tensor | None = None

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int, int, int]) -> "MappedImages":
        """The levels of a file; nothing is read yet."""
        size = path.stat().st_size
        flat = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        return cls(flat.view(shape))

    def __len__(self) -> int:
        return len(self.source if self.rows is None else self.rows)

    @property
    def shape(self) -> torch.Size:
        """(M, 3, H, W) or (M, D)."""
        return torch.Size((len(self), *self.source.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Of the levels."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Where an index gives its images: the CPU."""
        return self.source.device

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.shape.numel() * self.source.element_size()

    def is_floating_point(self) -> bool:
        """Whether they are floats: levels are not, vectors are."""
        return self.source.is_floating_point()

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """(B, 3, H, W) images at `rows` (B,), read now."""
        return self.source[rows] if self.rows is None else self.source[self.rows[rows]]

    def select(self, rows: Tensor) -> "MappedImages":
        """A view of the images at `rows` (B,); nothing is read."""
        return MappedImages(self.source, rows if self.rows is None else self.rows[rows])


Images = Tensor | MappedImages


def reserve(file: IO[bytes]) -> None:
    """Take the room of a sparse file on the disk, before it is written through a map.

    Without it, a full disk ends the process by SIGBUS when a page is written.

    Args:
        file: open for reading and writing; its content stays.

    Raises:
        OSError: there is no room.
    """
    size = os.fstat(file.fileno()).st_size
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    file.seek(0)
    for start in range(0, size, _CHUNK):  # each part as it is: a hole is read as zeros
        part = file.read(min(_CHUNK, size - start))
        file.seek(start)
        file.write(part)
    file.flush()
