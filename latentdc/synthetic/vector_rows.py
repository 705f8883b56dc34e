"""The rows of a set of feature vectors: one parquet file of float32 lists and class labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Features, List, Value
from torch import Tensor

from latentdc.synthetic.folder import reading

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet

COLUMN = "features"
GROUP = 10_000  # vectors written at a time


def write_vectors(path: Path, synthetic: "SyntheticSet") -> None:
    """Write vectors and labels, in their order."""
    names = ClassLabel(names=list(synthetic.class_names))
    schema = Features({COLUMN: List(Value("float32")), "label": names}).arrow_schema
    parts = zip(
        synthetic.floats().cpu().split(GROUP), synthetic.labels.cpu().split(GROUP), strict=True
    )
    with pq.ParquetWriter(path.absolute(), schema, write_page_checksum=True) as writer:
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
        InputError: the file is damaged, has no rows, or vectors of different width.
    """
    with reading(paths[0]):
        table = pq.read_table(paths[0], page_checksum_verification=True)
        names = Features.from_arrow_schema(table.schema)["label"].names
        if not len(table):
            raise ValueError("it has no rows")
        widths = set(pc.list_value_length(table[COLUMN]).to_pylist())
        if len(widths) > 1:
            raise ValueError(f"vectors of {', '.join(map(str, sorted(widths, key=str)))} values")
        values = torch.cat([torch.tensor(c.flatten().to_numpy()) for c in table[COLUMN].chunks])
        if not bool(values.isfinite().all()):
            raise ValueError("vectors are not finite")
        return values.view(len(table), -1), torch.tensor(table["label"].to_numpy()), tuple(names)
