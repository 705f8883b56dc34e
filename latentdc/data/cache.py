"""The cache of decoded images: from an `EncodedSplit` to a `Dataset`.

A split is decoded once, into a folder of the cache, and memory-mapped from there, so that all
processes of a machine share its pages. Up to `MEMORY_LIMIT` bytes of levels are compared with their
checksum, more by size alone, since a checksum would read all that the map leaves on the disk. The
folder's name holds a fingerprint of files, classes, resolution and what decoding does, so that
changed data are decoded anew. One process decodes, with a progress bar, while the others wait; a
killed one leaves nothing under a final name.
"""

import hashlib
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from latentdc import ranks
from latentdc.data.classes import require_members
from latentdc.data.dataset import Dataset
from latentdc.data.encoded import EncodedSplit, decoder_fingerprint
from latentdc.errors import InputError, is_full
from latentdc.images import MEMORY_LIMIT, Images, MappedImages
from latentdc.io import file_hash, fingerprint, load_with_metadata, locked, save_tensors, writing
from latentdc.plain_text import printable
from latentdc.recipe import Data

_LEVELS, _SAMPLES = "images.bin", "samples.safetensors"


def decoded(split: EncodedSplit, data: Data) -> Dataset:
    """The split as levels at `data.resolution`, decoded now or found in the cache.

    Raises:
        InputError: an unreadable image (with `stop`), an empty class, an unusable cache folder.
    """
    require_members(split.labels, split.class_names, split.name)
    if split.fingerprint is None:
        images, hashes = split.in_memory(data.resolution)
        return Dataset(images, split.labels, split.class_names, hashes, split.name)
    home = data.cache_folder / _key(split, data)
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


def _key(split: EncodedSplit, data: Data) -> str:
    digits = fingerprint(
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
    save_tensors(part / _SAMPLES, samples, {"images": checksum.hexdigest()})


def _read(home: Path, split: EncodedSplit, resolution: int) -> Dataset:
    samples, written = load_with_metadata(home / _SAMPLES)
    labels = samples["labels"]
    missing = len(split) - len(labels)
    if missing:
        told = f"left out {missing} of {len(split)} images that cannot be decoded"
        ranks.say("note", f"{printable(split.name)}: {told}.")
    return Dataset(
        images=_levels(home / _LEVELS, resolution, samples["hashes"], written),
        labels=labels,
        class_names=split.class_names,
        hashes=samples["hashes"],
        name=split.name,
    )


def _levels(path: Path, resolution: int, contents: Tensor, written: dict[str, str]) -> Images:
    size, shape = path.stat().st_size, (len(contents), 3, resolution, resolution)
    if size != math.prod(shape):
        raise ValueError(f"{path.name} has {size} bytes and not {math.prod(shape)}")
    if size <= MEMORY_LIMIT and file_hash(path) != written.get("images"):
        raise ValueError(f"{path.name} is not as it was written")
    mapped = MappedImages.open(path, shape, contents, decoder_fingerprint())
    return mapped if size > MEMORY_LIMIT else mapped.source
