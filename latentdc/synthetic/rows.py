"""The rows of a synthetic set: a parquet file of lossless PNGs and class labels, as on the Hub."""

import io
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


def encode(image: Tensor, codec: Literal["PNG", "JPEG"] = "PNG", quality: int = 95) -> bytes:
    """(3, H, W) uint8 -> the bytes of its lossless PNG, or of a JPEG of some quality."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(buffer, codec, quality=quality)
    return buffer.getvalue()


def write_rows(path: Path, images: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
    """Write (N, 3, H, W) uint8 images and (N,) labels, in their order."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(class_names))})
    schema = features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(labels), GROUP):
            group = {
                "image": [
                    {"bytes": encode(image), "path": f"{index:05d}.png"}
                    for index, image in enumerate(images[start : start + GROUP], start)
                ],
                "label": labels[start : start + GROUP].tolist(),
            }
            writer.write_table(pa.Table.from_pydict(group, schema=schema))


def read_rows(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The images, labels and class names that `write_rows` wrote."""
    file = pq.ParquetFile(path)
    class_names = Features.from_arrow_schema(file.schema_arrow)["label"].names
    images, labels = [], []
    for group in file.iter_batches(batch_size=GROUP):
        images += [_decode(image["bytes"]) for image in group["image"].to_pylist()]
        labels += group["label"].to_pylist()
    return torch.stack(images), torch.tensor(labels), tuple(class_names)


def _decode(data: bytes) -> Tensor:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
