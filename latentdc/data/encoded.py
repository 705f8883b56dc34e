"""`EncodedSplit`: the labelled image files of one split, which every source of images gives."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from latentdc.data.classes import choose_classes, named_classes
from latentdc.data.decode import UNREADABLE, decode
from latentdc.errors import InputError
from latentdc.io import fingerprint
from latentdc.ranks import progress
from latentdc.recipe import Data
from latentdc.runtime import cores

_CHUNK = 64  # images per task of a thread, or fewer if they take more than
_BLOCK = 2**20  # bytes that they are decoded to

Levels = tuple[NDArray[np.uint8], int]  # (3, H, W) levels of an image, and its content hash
Decoded = Levels | str  # or why there are none


@dataclass(frozen=True)
class EncodedSplit:
    """The labelled image files of one split, before anything is decoded.

    Attributes:
        name: source and split, for messages.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
        fingerprint: changes when the files change; None of a split that is too small to be kept.
        read: row -> the encoded image, callable from threads; OSError where there is none.
        locate: row -> file or row, for messages.
    """

    name: str
    labels: Tensor
    class_names: tuple[str, ...]
    fingerprint: str | None
    read: Callable[[int], bytes]
    locate: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def keep(self, data: Data) -> "EncodedSplit":
        """The images of the classes that a recipe keeps, as labels 0, 1, ... in its order."""
        names = named_classes(self.class_names, data, self.name)
        labels, kept, rows = choose_classes(self.labels, names, data, self.name)
        places: list[int] = rows.tolist()
        return EncodedSplit(
            name=self.name,
            labels=labels,
            class_names=kept,
            fingerprint=self.fingerprint,
            read=lambda row: self.read(places[row]),
            locate=lambda row: self.locate(places[row]),
        )

    def decode(self, resolution: int) -> Iterator[Decoded]:
        """Every image at that resolution, in row order, a bounded number of them in memory.

        Threads decode, one for each core that the process may use, ahead of what is asked for.
        """
        threads = cores()
        count = max(1, min(_CHUNK, _BLOCK // (3 * resolution**2)))
        waiting: deque[Future[list[Decoded]]] = deque()
        bar = progress(None, f"decoding {self.name}", total=len(self), unit=" images", delay=1)
        with ThreadPoolExecutor(threads) as pool, bar:
            try:
                for start in range(0, len(self), count):
                    rows = range(start, min(start + count, len(self)))
                    waiting.append(pool.submit(self._decode_all, rows, resolution))
                    if len(waiting) == 2 * threads:
                        yield from self._next(waiting, bar)
                while waiting:
                    yield from self._next(waiting, bar)
            finally:
                for task in waiting:
                    task.cancel()

    def _next(self, waiting: "deque[Future[list[Decoded]]]", bar: Any) -> list[Decoded]:
        done = waiting.popleft().result()
        bar.update(len(done))
        return done

    def _decode_all(self, rows: range, resolution: int) -> list[Decoded]:
        return [self._decode(row, resolution) for row in rows]

    def in_memory(self, resolution: int) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) uint8 levels and (N,) int64 content hashes of all images.

        Raises:
            InputError: an image that cannot be decoded.
        """
        images = torch.empty(len(self), 3, resolution, resolution, dtype=torch.uint8)
        hashes = torch.empty(len(self), dtype=torch.int64)
        for row, one in enumerate(self.decode(resolution)):
            levels, hashes[row] = self.require(row, one)
            images[row] = torch.from_numpy(levels)
        return images, hashes

    def require(self, row: int, result: Decoded, advice: str = "") -> Levels:
        """What was decoded of a row.

        Raises:
            InputError: nothing was; says the file, why, and what to do.
        """
        if isinstance(result, str):
            raise InputError(
                f"cannot decode {self.locate(row)}: {result}; mend or remove it{advice}."
            )
        return result

    def _decode(self, row: int, resolution: int) -> Decoded:
        try:
            return decode(self.read(row), resolution)
        except InputError:  # of the whole source
            raise
        except UnidentifiedImageError:
            return "it is no image"
        except UNREADABLE as error:
            return str(error) or type(error).__name__


@cache
def decoder_fingerprint() -> str:
    """What decoding makes of two pictures: another code or library that decodes otherwise shows."""
    gradient = np.arange(24 * 20 * 4).reshape(20, 24, 4) * 7 % 256
    picture = Image.fromarray(gradient.astype(np.uint8), "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    found = []
    for mode, kind in (("RGBA", "PNG"), ("L", "JPEG")):
        content = BytesIO()
        picture.convert(mode).save(content, kind, exif=exif)
        levels, hash_ = decode(content.getvalue(), 8)
        found.append((levels, hash_))
    return fingerprint(found)
