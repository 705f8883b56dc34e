"""Every parquet or folder split is decoded once, into a folder of the cache, and read from there.

Read into memory where the levels take at most `MEMORY_LIMIT` bytes, else memory-mapped. The
folder's name holds a fingerprint of files, classes and resolution, so that changed data are decoded
anew. One process decodes, with a progress bar, while the others wait; a killed one leaves nothing
under a final name.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from latentdc import ranks
from latentdc.data.classes import require_members
from latentdc.data.dataset import Dataset
from latentdc.data.decode import UNREADABLE, decode
from latentdc.data.encoded import EncodedSplit
from latentdc.data.files import printable
from latentdc.data.mapped import Images, MappedImages
from latentdc.errors import InputError

MEMORY_LIMIT = 2 * 2**30  # bytes
_FORMAT = 1  # raised when decoding or hashing changes, so that old folders are not read
_CHUNK = 64  # images per task of a thread
_BLOCK = 64 * 2**20  # bytes decoded between two writes

Decoded = tuple[NDArray[np.uint8], int] | str  # levels and hash, or why there are none


def decoded(
    split: EncodedSplit, *, resolution: int, unreadable: Literal["stop", "skip"], folder: str | None
) -> Dataset:
    """The split as levels, decoded now or found in the cache.

    Raises:
        InputError: an unreadable image (with `stop`), an empty class, an unusable cache folder.
    """
    require_members(split.labels, split.class_names, split.name)
    home = cache_folder(folder) / _key(split, resolution, unreadable)
    if not _is_there(home):  # a folder under its final name is whole, also in a read-only cache
        with _one_process(home):
            if not home.is_dir():
                _decode_into(home, split, resolution, unreadable)
    try:
        return _read(home, split, resolution)
    except (OSError, ValueError, SafetensorError) as error:
        if _is_full(error):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"the decoded images {home} are damaged ({reason}); remove them."
        ) from error


def cache_folder(folder: str | None) -> Path:
    """`data.cache`, else `$LATENTDC_CACHE`, else `~/.cache/latentdc`."""
    chosen = folder or os.environ.get("LATENTDC_CACHE") or "~/.cache/latentdc"
    return Path(chosen).expanduser()


@contextmanager
def _one_process(home: Path) -> Iterator[None]:
    """Hold the lock of one cache entry."""
    lock = FileLock(f"{home}.lock")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if _is_full(error):
            raise
        reason = getattr(error, "strerror", None) or "it cannot be locked"
        raise InputError(
            f"cannot write to {printable(home.parent)} ({reason}); pass another data.cache=FOLDER."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _is_there(home: Path) -> bool:
    try:
        return home.is_dir()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def _is_full(error: BaseException) -> bool:
    """Whether a full disk is behind it, which the command says in its own words."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _key(split: EncodedSplit, resolution: int, unreadable: str) -> str:
    parts = [_FORMAT, split.fingerprint, split.name, split.class_names, resolution, unreadable]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    words = printable(split.name).replace("/", " ").replace("\\", "_").split()
    return "-".join([*(word[-40:] for word in words[-2:]), str(resolution), digest])


def _decode_into(home: Path, split: EncodedSplit, resolution: int, unreadable: str) -> None:
    part = home.with_name(home.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        _write(part, split, resolution, unreadable)
        os.replace(part, home)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, split: EncodedSplit, resolution: int, unreadable: str) -> None:
    kept: list[int] = []
    hashes: list[int] = []
    with (part / "images.bin").open("wb") as images:
        for row, result in enumerate(_decode_all(split, resolution)):
            if not isinstance(result, str):
                levels, hash_ = result
                images.write(levels.tobytes())
                kept.append(row)
                hashes.append(hash_)
            elif unreadable == "stop":
                raise InputError(
                    f"cannot decode {split.locate(row)}: {result}; mend or remove it, or leave "
                    "such images out with data.unreadable=skip."
                )
    labels = split.labels[torch.tensor(kept, dtype=torch.int64)]
    require_members(labels, split.class_names, split.name)
    save_file({"labels": labels, "hashes": torch.tensor(hashes)}, part / "samples.safetensors")


def _decode_all(split: EncodedSplit, resolution: int) -> Iterator[Decoded]:
    """Decoded images in row order, a bounded number of them in memory."""
    chunks = [range(i, min(i + _CHUNK, len(split))) for i in range(0, len(split), _CHUNK)]
    at_once = max(os.cpu_count() or 1, _BLOCK // (_CHUNK * 3 * resolution**2))
    bar = tqdm(total=len(split), desc=f"decoding {split.name}", unit=" images")
    with ThreadPoolExecutor(os.cpu_count()) as threads, bar:
        for i in range(0, len(chunks), at_once):
            tasks = [
                threads.submit(_decode_rows, split, rows, resolution)
                for rows in chunks[i : i + at_once]
            ]
            for task in tasks:
                yield from task.result()
                bar.update(len(task.result()))


def _decode_rows(split: EncodedSplit, rows: Sequence[int], resolution: int) -> list[Decoded]:
    return [_decode_one(split, row, resolution) for row in rows]


def _decode_one(split: EncodedSplit, row: int, resolution: int) -> Decoded:
    try:
        return decode(split.read(row), resolution)
    except UnidentifiedImageError:
        return "it is no image"
    except UNREADABLE as error:
        return str(error) or type(error).__name__


def _read(home: Path, split: EncodedSplit, resolution: int) -> Dataset:
    with safe_open(home / "samples.safetensors", framework="pt") as file:
        labels, hashes = file.get_tensor("labels"), file.get_tensor("hashes")
    missing = len(split) - len(labels)
    if missing and ranks.rank() == 0:
        name = printable(split.name)
        print(f"{name}: left out {missing} of {len(split)} images that cannot be decoded.")
    return Dataset(
        images=_levels(home / "images.bin", (len(labels), 3, resolution, resolution)),
        labels=labels,
        class_names=split.class_names,
        hashes=hashes,
        name=split.name,
    )


def _levels(path: Path, shape: tuple[int, int, int, int]) -> Images:
    if path.stat().st_size != math.prod(shape):
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes and not {math.prod(shape)}")
    if path.stat().st_size <= MEMORY_LIMIT:
        return torch.from_numpy(np.fromfile(path, dtype=np.uint8)).view(shape)
    return MappedImages.open(path, shape)
