"""The rows of a synthetic set: parquet files of lossless PNGs and class labels, as on the Hub."""

import io
import warnings
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

from latentdc.synthetic.folder import reading

LARGEST = 4096  # pixels along a side of an image
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
    with pq.ParquetWriter(path.absolute(), schema, write_page_checksum=True) as writer:
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
        InputError: a file is missing or damaged, has no rows, or pictures that are none of a set.
    """
    with reading(paths[0]):
        of = int(paths[0].stem.rpartition("-")[2])
        if len(paths) != of:
            raise ValueError(f"{len(paths)} of its {of} parquet files are there")
        class_names = _class_names(paths[0])
        count = sum(pq.read_metadata(path).num_rows for path in paths)
    images: Tensor | None = None
    labels: list[int] = []
    for path in paths:
        with reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            if _class_names(path) != class_names:
                raise ValueError(f"it has other classes than {paths[0].name}")
            for image, label in _each(path):
                images = _room(count, image) if images is None else images
                if image.shape != images.shape[1:]:
                    raise ValueError(
                        f"picture {len(labels)} is {_size(image)}, the first is {_size(images[0])}"
                    )
                images[len(labels)] = image
                labels.append(label)
            if images is None:
                raise ValueError("it has no rows")
    assert images is not None
    return images, torch.tensor(labels), class_names


def _room(count: int, image: Tensor) -> Tensor:
    try:
        return image.new_empty((count, *image.shape))
    except RuntimeError as error:
        raise MemoryError(f"{count:,} images of {_size(image)} do not fit") from error


def _class_names(path: Path) -> tuple[str, ...]:
    label = Features.from_arrow_schema(pq.read_schema(path)).get("label")
    if not isinstance(label, ClassLabel):
        raise ValueError("it has no column `label` of class labels")
    return tuple(label.names)


def _each(path: Path) -> Iterator[tuple[Tensor, int]]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in file.iter_batches(batch_size=GROUP):
            for image, label in zip(
                group["image"].to_pylist(), group["label"].to_pylist(), strict=True
            ):
                yield _decode(image["bytes"]), label


def _decode(data: bytes) -> Tensor:
    picture = Image.open(io.BytesIO(data), formats=["PNG"])
    if picture.mode != "RGB" or max(picture.size) > LARGEST:
        raise ValueError(
            f"a picture is {picture.width} x {picture.height} px of mode {picture.mode}; a set's "
            f"are RGB and have sides of at most {LARGEST} px"
        )
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _size(image: Tensor) -> str:
    return f"{image.shape[2]} x {image.shape[1]} px"
