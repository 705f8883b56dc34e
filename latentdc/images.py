"""Images and feature vectors: their forms, and where they lie.

Samples are images (N, 3, H, W), uint8 levels or floats in [-1, 1], or feature vectors (N, D). What
networks see of them is a `Preprocessing`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

MEMORY_LIMIT = 2 * 2**30  # bytes of samples, more of which stay in their file
_CACHED = 200_000  # values of a thread's part of a batch: 65 images of 32 px

Kind = Literal["images", "vectors"]


# ---- Forms ----


def from_uint8(images: Tensor) -> Tensor:
    """(..., H, W) levels 0..255 -> float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """(..., H, W) floats in [-1, 1], clamped -> nearest of the levels 0..255."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def contiguous(images: Tensor) -> Tensor:
    """The same values with rows in memory one after the other, also where a side has length 1.

    Networks are given nothing else: pictures that were read as (H, W, 3) and shifted pixels lie
    channel by channel, which a convolution takes over; some of torch's kernels for that layout
    crash on a CPU (2.14: the gradient of a 1x1 convolution with stride 2). Differentiable.
    """
    return images.contiguous().flatten().view(images.shape)  # strides of a side of 1 are free


# ---- Where samples lie ----


def mapped_file(path: Path, dtype: torch.dtype) -> Tensor:
    """All values (N,) of a file, read as they are asked for; what is written stays in memory.

    Mapped by NumPy: what torch.from_file maps cannot be sent to another process.
    """
    if not path.stat().st_size:
        return torch.empty(0, dtype=dtype)
    return torch.from_numpy(np.memmap(path, np.uint8, "c")).view(dtype)


@dataclass(frozen=True, eq=False)
class MappedImages:
    """Some rows of a memory-mapped tensor, in an order of their own.

    Used where a tensor of images is: it has the shape and the size of one, and an index gives one.
    """

    source: Tensor  # the whole file: (N, 3, H, W) uint8, or vectors (N, D) of floats
    rows: Tensor | None = None  # (M,) rows of the file that stand here; None for all of them
    # (N,) int64 content hash of each row of the file, so that nothing has to be read to tell one
    # set from another; None where there are none.
    contents: Tensor | None = None
    decoding: str = ""  # what made levels of the contents

    @classmethod
    def open(
        cls,
        path: Path,
        shape: tuple[int, int, int, int],
        contents: Tensor | None = None,
        decoding: str = "",
    ) -> "MappedImages":
        """The levels of a file; nothing is read yet."""
        levels = mapped_file(path, torch.uint8).view(shape)
        return cls(levels, contents=contents, decoding=decoding)

    def __len__(self) -> int:
        return len(self.source if self.rows is None else self.rows)

    @property
    def shape(self) -> torch.Size:
        """(M, 3, H, W) or (M, D)."""
        return torch.Size((len(self), *self.source.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the levels."""
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
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def facts(self) -> dict[str, object] | None:
        """What tells these images from others, in their order; None without `contents`."""
        if self.contents is None:
            return None
        contents = self.contents if self.rows is None else self.contents[self.rows]
        return {"contents": contents, "shape": list(self.shape), "decoding": self.decoding}


Images = Tensor | MappedImages


def kind_of(samples: Images) -> Kind:
    """`vectors`, (N, D), or `images`, (N, 3, H, W)."""
    return "vectors" if len(samples.shape) == 2 else "images"


def as_floats(samples: Tensor) -> Tensor:
    """What is computed with: levels 0..255 -> float32 in [-1, 1]; other floats -> float32."""
    return samples.float() if samples.is_floating_point() else from_uint8(samples)


def as_levels(images: Tensor) -> Tensor:
    """What is stored and shown: floats in [-1, 1], clamped -> levels 0..255; levels as they are."""
    return to_uint8(images) if images.is_floating_point() else images


def place(images: Images, device: torch.device) -> Images:
    """The images on the device, or where they are if they would fill half of its free memory."""
    if device.type == "cuda" and images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > free // 2:
            return images
    if isinstance(images, Tensor):
        return images.to(device)
    return images if device.type == "cpu" else _copied(images, device)


def _copied(images: MappedImages, device: torch.device, block: int = 1024) -> Tensor:
    """All images on the device, read a block at a time."""
    copy = torch.empty(images.shape, dtype=images.dtype, device=device)
    for start in range(0, len(images), block):
        copy[start : start + block] = images[slice(start, start + block)].to(device)
    return copy


def forward_batch(images: Images, most: int, device: torch.device) -> int:
    """Images in a forward pass without gradients: `most`, or on a CPU as many as its caches hold.

    There the activations of larger batches go through memory: 512 images of 32 px take twice as
    long each as 32 do. It follows from sizes and threads, never from a clock, so that the same
    numbers come out each time.
    """
    if device.type != "cpu":
        return most
    return min(most, max(8, torch.get_num_threads() * _CACHED // images.shape[1:].numel()))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, from pinned memory so that the host does not wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def fetch(images: Images, rows: Tensor, device: torch.device) -> Tensor:
    """(B, 3, H, W) floats in [-1, 1] on the device: `rows` (B,), on the CPU, of placed images.

    Of vectors (B, D) float32, as they are.
    """
    return as_floats(send(images[send(rows, images.device)], device))
