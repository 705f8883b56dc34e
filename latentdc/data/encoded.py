"""The labelled image files of one split, which every source of images gives, and their decoding.

A split is decoded once, into a folder of the cache, and memory-mapped from there, so that all
processes of a machine share its pages. Up to `MEMORY_LIMIT` bytes of levels are compared with their
checksum, more by size alone, since a checksum would read all that the map leaves on the disk. The
folder's name holds a fingerprint of files, classes, resolution and what decoding does, so that
changed data are decoded anew. One process decodes, with a progress bar, while the others wait; a
killed one leaves nothing under a final name.
"""

import errno
import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from latentdc import io, locks, ranks
from latentdc.data.classes import choose_classes, named_classes, require_members
from latentdc.data.decode import UNREADABLE, decode
from latentdc.errors import InputError, first_line, is_full
from latentdc.images import MEMORY_LIMIT, Images, MappedImages
from latentdc.plain_text import printable
from latentdc.recipe import Data
from latentdc.runtime import cores

_CHUNK = 64  # images per task of a thread, or fewer if they take more than
# Of a system that has no room, or no server, for now: no image is left out of a cache for that.
_OF_THE_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)
_COMPARED = 64  # images of files that may be others than those that were decoded
_BLOCK = 2**20  # bytes that they are decoded to

_LEVELS, _SAMPLES = "images.bin", "samples.safetensors"  # of a split in the cache

Fields = dict[str, Any]  # of a Dataset, by name
Levels = tuple[NDArray[np.uint8], int]  # (3, H, W) levels of an image, and its content hash
Decoded = Levels | str  # or why there are none


@dataclass(frozen=True)
class EncodedSplit:
    """The labelled image files of one split, before anything is decoded."""

    name: str  # source and split, for messages
    labels: Tensor  # (N,) int64 indices into `class_names`
    class_names: tuple[str, ...]  # in label order
    fingerprint: str | None  # changes when the files do; None of a split too small to be kept
    read: Callable[[int], bytes]  # row -> encoded image, from threads too; OSError without one
    locate: Callable[[int], str]  # row -> file or row, for messages
    changed: int = 0  # nanoseconds at which the system last saw one of its files change

    def __len__(self) -> int:
        return len(self.labels)

    def choose_classes(self, data: Data) -> "EncodedSplit":
        """The images of the classes that a recipe keeps, as labels 0, 1, ... in its order."""
        names = named_classes(self.class_names, data, self.name)
        labels, kept, rows = choose_classes(self.labels, names, data, self.name)
        places: list[int] = rows.tolist()
        return replace(
            self,
            labels=labels,
            class_names=kept,
            read=lambda row: self.read(places[row]),
            locate=lambda row: self.locate(places[row]),
        )

    def decode(self, resolution: int) -> Iterator[Decoded]:
        """Every image at that resolution, in row order, a bounded number of them in memory.

        Threads decode, one for each core that the process may use, ahead of what is asked for.
        """
        threads = cores()
        count = max(1, min(_CHUNK, _BLOCK // (3 * resolution**2)))

        def chunk(start: int) -> list[Decoded]:
            rows = range(start, min(start + count, len(self)))
            return [self._decode(row, resolution) for row in rows]

        waiting: deque[Future[list[Decoded]]] = deque()
        bar = ranks.progress(
            None, f"decoding {self.name}", total=len(self), unit=" images", delay=1
        )
        with ThreadPoolExecutor(threads) as pool, bar:
            try:
                for start in range(0, len(self), count):
                    waiting.append(pool.submit(chunk, start))
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

    def in_memory(self, resolution: int) -> Fields:
        """What a `Dataset` holds of the split, decoded now.

        Raises:
            InputError: an image that cannot be decoded.
        """
        images = torch.empty(len(self), 3, resolution, resolution, dtype=torch.uint8)
        hashes = torch.empty(len(self), dtype=torch.int64)
        for row, one in enumerate(self.decode(resolution)):
            levels, hashes[row] = self.require(row, one)
            images[row] = torch.from_numpy(levels)
        return self.fields(images, self.labels, hashes)

    def fields(self, images: Images, labels: Tensor, hashes: Tensor) -> Fields:
        """Fields of a `Dataset` with these images, labels and content hashes."""
        names = {"class_names": self.class_names, "name": self.name}
        return {"images": images, "labels": labels, "hashes": hashes, **names}

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
            if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
                raise
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
    return io.fingerprint(found)


# ---- The cache of decoded images ----


def decoded(split: EncodedSplit, data: Data) -> Fields:
    """What a `Dataset` holds of a split at `data.resolution`, decoded now or found in the cache.

    Raises:
        InputError: an unreadable image (with `stop`), an empty class, an unusable cache folder.
    """
    require_members(split.labels, split.class_names, split.name)
    if split.fingerprint is None:
        return split.in_memory(data.resolution)
    home = data.cache_folder / _key(split, data)
    if not _is_of(home, split, data):  # else no lock, which a read-only cache could not hold
        advice = "pass another data.cache=FOLDER"
        with locks.locked(home, wait=True, every_process=True, advice=advice):
            if not _is_of(home, split, data):
                with io.writing(home) as part:
                    part.mkdir()
                    _decode_into(part, split, data)
    try:
        return _read(home, split, data.resolution)
    except (OSError, ValueError) as error:
        if is_full(error):
            raise
        reason = first_line(error)
        raise InputError(
            f"the decoded images {home} are damaged ({reason}); remove them."
        ) from error


def _is_of(home: Path, split: EncodedSplit, data: Data) -> bool:
    """Whether a folder of the cache is there, and so whole, and of these files.

    Others of the same names and sizes may have been given the same times, as tools that unpack or
    copy do. So where the system saw one change since, contents of some images are compared.
    """
    if not os.path.isdir(home):
        return False
    try:
        if split.changed <= home.stat().st_mtime_ns:
            return True
        known = {*io.load_tensors(home / _SAMPLES)["hashes"].tolist()}
    except (OSError, ValueError):  # which is told where it is read
        return True
    rows = {len(split) * place // _COMPARED for place in range(_COMPARED)}
    some = [split._decode(row, data.resolution) for row in sorted(rows)]
    return all(
        data.unreadable == "skip" if isinstance(one, str) else one[1] in known for one in some
    )


def holds_decoded(folder: Path) -> bool:
    """Whether a folder, or one in it, is a cache with decoded images."""
    found = (one for depth in ("*", "*/*") for one in folder.glob(f"{depth}/{_SAMPLES}"))
    return any((one.parent / _LEVELS).is_file() for one in found)


def _key(split: EncodedSplit, data: Data) -> str:
    digits = io.fingerprint(
        {
            "decoding": decoder_fingerprint(),
            "files": split.fingerprint,
            "name": split.name,
            "class_names": split.class_names,
            "resolution": data.resolution,
            "unreadable": data.unreadable,
        }
    )
    words = printable(split.name).replace("/", " ").replace("\\", "_").split()
    short = [word[-40:].encode()[-80:].decode(errors="ignore") for word in words[-2:]]
    return "-".join([*short, str(data.resolution), digits])


def _decode_into(part: Path, split: EncodedSplit, data: Data) -> None:
    kept: list[int] = []
    hashes: list[int] = []
    checksum = hashlib.sha256()
    with (part / _LEVELS).open("wb") as images:
        for row, result in enumerate(split.decode(data.resolution)):
            if isinstance(result, str) and data.unreadable == "skip":
                continue
            levels, hash_ = split.require(row, result, " or leave it out: data.unreadable=skip")
            images.write(levels.data)
            checksum.update(levels.data)
            kept.append(row)
            hashes.append(hash_)
    labels = split.labels[torch.tensor(kept, dtype=torch.int64)]
    require_members(labels, split.class_names, split.name)
    samples = {"labels": labels, "hashes": torch.tensor(hashes)}
    io.save_tensors(part / _SAMPLES, samples, {"images": checksum.hexdigest()})


def _read(home: Path, split: EncodedSplit, resolution: int) -> Fields:
    samples, written = io.load_with_metadata(home / _SAMPLES)
    labels = samples["labels"]
    missing = len(split) - len(labels)
    if missing:
        told = f"left out {missing} of {len(split)} images that cannot be decoded"
        ranks.say("note", f"{printable(split.name)}: {told}.")
    images = _levels(home / _LEVELS, resolution, samples["hashes"], written)
    return split.fields(images, labels, samples["hashes"])


def _levels(path: Path, resolution: int, contents: Tensor, written: dict[str, str]) -> Images:
    size, shape = path.stat().st_size, (len(contents), 3, resolution, resolution)
    if size != math.prod(shape):
        raise ValueError(f"{path.name} has {size} bytes and not {math.prod(shape)}")
    if size <= MEMORY_LIMIT and io.file_hash(path) != written.get("images"):
        raise ValueError(f"{path.name} is not as it was written")
    mapped = MappedImages.open(path, shape, contents, decoder_fingerprint())
    return mapped if size > MEMORY_LIMIT else mapped.source
