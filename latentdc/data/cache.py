"""`EncodedSplit`, what every source of images gives, and the `Dataset` that is decoded from it.

A split is decoded once, into a folder of the cache, and read from there: into memory and compared
with its checksum where the levels take at most `MEMORY_LIMIT` bytes, else memory-mapped and
compared by size alone, since a checksum would read all that the map leaves on the disk. The
folder's name holds a fingerprint of files, classes, resolution and what decoding does, so that
changed data are decoded anew. One process decodes, with a progress bar, while the others wait; a
killed one leaves nothing under a final name.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from latentdc import ranks
from latentdc.data.classes import choose_classes, require_members
from latentdc.data.dataset import Dataset
from latentdc.data.decode import UNREADABLE, decode
from latentdc.errors import InputError, is_full
from latentdc.images import Images, MappedImages
from latentdc.io import file_hash, fingerprint, load_with_metadata, locked, save_tensors, writing
from latentdc.plain_text import printable
from latentdc.recipe import Data

MEMORY_LIMIT = 2 * 2**30  # bytes
_CHUNK = 64  # images per task of a thread
_BLOCK = 64 * 2**20  # bytes decoded between two writes
_LEVELS, _SAMPLES = "images.bin", "samples.safetensors"

Decoded = tuple[NDArray[np.uint8], int] | str  # levels and hash, or why there are none


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
        labels, kept, rows = choose_classes(self.labels, self.class_names, data, self.name)
        places: list[int] = rows.tolist()
        return EncodedSplit(
            name=self.name,
            labels=labels,
            class_names=kept,
            fingerprint=self.fingerprint,
            read=lambda row: self.read(places[row]),
            locate=lambda row: self.locate(places[row]),
        )


def decoded(split: EncodedSplit, data: Data) -> Dataset:
    """The split as levels at `data.resolution`, decoded now or found in the cache.

    Raises:
        InputError: an unreadable image (with `stop`), an empty class, an unusable cache folder.
    """
    require_members(split.labels, split.class_names, split.name)
    if split.fingerprint is None:
        pairs = [decode(split.read(row), data.resolution) for row in range(len(split))]
        images = torch.from_numpy(np.stack([levels for levels, _ in pairs]))
        hashes = torch.tensor([hash_ for _, hash_ in pairs])
        return Dataset(images, split.labels, split.class_names, hashes, split.name)
    home = cache_folder(data.cache) / _key(split, data)
    if not os.path.isdir(home):  # one under its final name is whole, also in a read-only cache
        advice = "pass another data.cache=FOLDER"
        with locked(home, wait=True, every_process=True, advice=advice):
            if not home.is_dir():
                with writing(home) as part:
                    part.mkdir()
                    _decode_into(part, split, data)
    try:
        return _read(home, split, data.resolution)
    except (OSError, ValueError) as error:
        if is_full(error):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"the decoded images {home} are damaged ({reason}); remove them."
        ) from error


def cache_folder(folder: str | None) -> Path:
    """`data.cache`, else `$LATENTDC_CACHE`, else `~/.cache/latentdc`."""
    chosen = folder or os.environ.get("LATENTDC_CACHE") or "~/.cache/latentdc"
    return Path(chosen).expanduser()


def _key(split: EncodedSplit, data: Data) -> str:
    digits = fingerprint(
        {
            "decoding": _decoding(),
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


@cache
def _decoding() -> str:
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


def _decode_into(part: Path, split: EncodedSplit, data: Data) -> None:
    kept: list[int] = []
    hashes: list[int] = []
    with (part / _LEVELS).open("wb") as images:
        for row, result in enumerate(_decode_all(split, data.resolution)):
            if not isinstance(result, str):
                levels, hash_ = result
                images.write(levels.tobytes())
                kept.append(row)
                hashes.append(hash_)
            elif data.unreadable == "stop":
                raise InputError(
                    f"cannot decode {split.locate(row)}: {result}; mend or remove it, or leave "
                    "such images out with data.unreadable=skip."
                )
    labels = split.labels[torch.tensor(kept, dtype=torch.int64)]
    require_members(labels, split.class_names, split.name)
    samples = {"labels": labels, "hashes": torch.tensor(hashes)}
    save_tensors(part / _SAMPLES, samples, {"images": file_hash(part / _LEVELS)})


def _decode_all(split: EncodedSplit, resolution: int) -> Iterator[Decoded]:
    """Decoded images in row order, a bounded number of them in memory."""
    chunks = [range(i, min(i + _CHUNK, len(split))) for i in range(0, len(split), _CHUNK)]
    at_once = max(os.cpu_count() or 1, _BLOCK // (_CHUNK * 3 * resolution**2))
    bar = tqdm(total=len(split), desc=f"decoding {split.name}", unit=" images")
    with ThreadPoolExecutor(os.cpu_count()) as threads, bar:
        for i in range(0, len(chunks), at_once):
            tasks = [
                threads.submit(lambda rows: [_decode_one(split, r, resolution) for r in rows], rows)
                for rows in chunks[i : i + at_once]
            ]
            for task in tasks:
                yield from task.result()
                bar.update(len(task.result()))


def _decode_one(split: EncodedSplit, row: int, resolution: int) -> Decoded:
    try:
        return decode(split.read(row), resolution)
    except UnidentifiedImageError:
        return "it is no image"
    except UNREADABLE as error:
        return str(error) or type(error).__name__


def _read(home: Path, split: EncodedSplit, resolution: int) -> Dataset:
    samples, written = load_with_metadata(home / _SAMPLES)
    labels = samples["labels"]
    missing = len(split) - len(labels)
    if missing and ranks.rank() == 0:
        name = printable(split.name)
        print(f"{name}: left out {missing} of {len(split)} images that cannot be decoded.")
    return Dataset(
        images=_levels(home / _LEVELS, (len(labels), 3, resolution, resolution), written),
        labels=labels,
        class_names=split.class_names,
        hashes=samples["hashes"],
        name=split.name,
    )


def _levels(path: Path, shape: tuple[int, int, int, int], written: dict[str, str]) -> Images:
    size = path.stat().st_size
    if size != math.prod(shape):
        raise ValueError(f"{path.name} has {size} bytes and not {math.prod(shape)}")
    if size > MEMORY_LIMIT:  # whose bytes are not compared
        return MappedImages.open(path, shape)
    if file_hash(path) != written.get("images"):
        raise ValueError(f"{path.name} is not as it was written")
    return torch.from_numpy(np.fromfile(path, dtype=np.uint8)).view(shape)
