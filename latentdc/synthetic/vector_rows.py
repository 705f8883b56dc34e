"""The rows of a set of feature vectors: one parquet file of float32 lists and class labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Features, List, Value
from torch import Tensor

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet

COLUMN = "features"
GROUP = 10_000  # vectors written at a time


def write_vectors(path: Path, synthetic: "SyntheticSet") -> None:
    """Write vectors and labels, in their order."""
    names = ClassLabel(names=list(synthetic.class_names))
    schema = Features({COLUMN: List(Value("float32")), "label": names}).arrow_schema
    parts = zip(
        synthetic.images.cpu().split(GROUP), synthetic.labels.cpu().split(GROUP), strict=True
    )
    with pq.ParquetWriter(path, schema) as writer:
        for vectors, labels in parts:
            ends = torch.arange(len(vectors) + 1, dtype=torch.int32) * vectors.shape[1]
            lists = pa.ListArray.from_arrays(ends.numpy(), vectors.flatten().numpy())
            columns = [lists, pa.array(labels.numpy())]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def holds_vectors(path: Path) -> bool:
    """Whether a parquet file of a set is one of vectors."""
    return COLUMN in pq.read_schema(path).names


def read_vectors(paths: Sequence[Path]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The vectors, labels and class names that `write_vectors` wrote.

    Raises:
        ValueError: the file has no rows, or vectors of different width.
    """
    table = pq.read_table(paths[0])
    names = Features.from_arrow_schema(table.schema)["label"].names
    if not len(table):
        raise ValueError("it has no rows")
    values = [torch.tensor(part.flatten().to_numpy()) for part in table[COLUMN].chunks]
    labels = torch.tensor(table["label"].to_numpy())
    return torch.cat(values).view(len(table), -1), labels, tuple(names)
