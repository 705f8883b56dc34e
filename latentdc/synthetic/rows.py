"""The rows of a synthetic set: parquet files of lossless PNGs and class labels, as on the Hub."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Features
from datasets import Image as ImageFeature
from PIL import Image
from torch import Tensor

GROUP = 100  # rows encoded at a time; small row groups also let the Hub show single rows
SHARD = 500_000_000  # bytes of levels in a file, before compression


def encode(image: Tensor, codec: Literal["PNG", "JPEG"] = "PNG", quality: int = 95) -> bytes:
    """(3, H, W) uint8 -> the bytes of its lossless PNG, or of a JPEG of some quality."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(buffer, codec, quality=quality)
    return buffer.getvalue()


def rows_per_shard(images: Tensor) -> int:
    """How many of (N, 3, H, W) uint8 images go into one file."""
    return max(GROUP, SHARD // images[0].nbytes)


def write_rows(
    path: Path, images: Tensor, labels: Tensor, class_names: tuple[str, ...], *, first: int = 0
) -> None:
    """Write (N, 3, H, W) uint8 images and (N,) labels, in their order, counted from `first`."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(class_names))})
    schema = features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(labels), GROUP):
            group = {
                "image": [
                    {"bytes": encode(image), "path": f"{index:05d}.png"}
                    for index, image in enumerate(images[start : start + GROUP], first + start)
                ],
                "label": labels[start : start + GROUP].tolist(),
            }
            writer.write_table(pa.Table.from_pydict(group, schema=schema))


def read_rows(paths: Sequence[Path]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The images, labels and class names that `write_rows` wrote.

    Raises:
        ValueError: a file is missing, or has no rows.
    """
    of = int(paths[0].stem.rpartition("-")[2])
    if len(paths) != of:
        raise ValueError(f"{len(paths)} of its {of} parquet files are there")
    files = [pq.ParquetFile(path) for path in paths]
    class_names = Features.from_arrow_schema(files[0].schema_arrow)["label"].names
    count = sum(file.metadata.num_rows for file in files)
    images: Tensor | None = None
    labels: list[int] = []
    for image, label in _each(files):
        if images is None:
            images = image.new_empty((count, *image.shape))
        images[len(labels)] = image
        labels.append(label)
    if images is None:
        raise ValueError("it has no rows")
    return images, torch.tensor(labels), tuple(class_names)


def _each(files: Sequence[pq.ParquetFile]) -> Iterator[tuple[Tensor, int]]:
    for file in files:
        for group in file.iter_batches(batch_size=GROUP):
            for image, label in zip(
                group["image"].to_pylist(), group["label"].to_pylist(), strict=True
            ):
                yield _decode(image["bytes"]), label


def _decode(data: bytes) -> Tensor:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
