"""Tables of samples, and those of parquet files, which are read where they lie.

Nothing is copied: labels are read at once, images a row group at a time when they are decoded. The
files come from strangers; pointers, missing shards and files that claim more than they can hold are
refused before anything is read.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.table import cast_array_to_feature

from latentdc.data import files
from latentdc.data.decode import pointer
from latentdc.errors import InputError, in_short
from latentdc.plain_text import printable

# What `datasets` and pyarrow raise on files that are damaged or of another kind.
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError),
    *(ArithmeticError, pa.ArrowException, datasets.exceptions.DatasetsError),
)
_KEPT = 2**28  # bytes of row groups that stay in memory, two at least

Entry = dict[str, Any]  # of an image column: `bytes`, or the `path` of a file


@dataclass(frozen=True)
class SampleTable:
    """Samples by row, of which each column is read when it is asked for."""

    features: datasets.Features  # types of the columns, by name
    files: Sequence[Path]  # that hold them
    column: Callable[[str], list[Any]]  # name of a column -> all its values
    # Name of an image column -> what gives the entry of a row, None where it has none, callable
    # from threads.
    images: Callable[[str], Callable[[int], Entry | None]]
    names_files: bool = False  # whether its rows name image files that `datasets` has found


def of_datasets(table: datasets.Dataset) -> SampleTable:
    """A table of `datasets` with its rows in its own order, which may not be its files'.

    Raises:
        InputError: it has a transform, which reading its columns would not carry out.
    """
    if table.format["type"] == "custom":
        raise InputError(
            "a table with a transform is read as it is stored; take the transform off with "
            "table.with_format(None), or write its rows with table.map."
        )
    table = table.with_format(None)
    arrow = table.with_format("arrow")

    def images(name: str) -> Callable[[int], Entry | None]:
        rows = table.select_columns([name]).cast_column(name, datasets.Image(decode=False))
        return lambda row: rows[row][name]

    return SampleTable(
        features=table.features,
        files=[Path(file["filename"]) for file in table.cache_files],
        column=lambda name: arrow.select_columns([name])[:].column(name).to_pylist(),
        images=images,
        names_files=table.info.builder_name == "imagefolder",
    )


def read_parquet(
    paths: Sequence[Path], source: Path, split: str = "train", info: Any = None
) -> SampleTable:
    """The rows of the parquet files of a split.

    `info` is what the card says of columns and of the rows in each split.

    Raises:
        InputError: files that are missing, damaged, pointers, or claim more than they can hold.
    """
    files.require_all_shards(paths, source)
    found = [_metadata(path) for path in paths]
    rows = sum(each.num_rows for each in found)
    said = (info.splits or {}).get(split) if info else None
    if said is not None and said.num_examples != rows:
        raise InputError(
            f"{source}: its README.md promises {said.num_examples} rows of {split}, and its files "
            f"hold {rows}; download it anew (hf download), or mend the card."
        )
    with _reading(paths[0], len(paths)):
        schema = _plain(found[0].schema.to_arrow_schema())
        features = (info.features if info else None) or datasets.Features.from_arrow_schema(schema)
    for path, each in zip(paths, found, strict=True):
        if absent := sorted(set(features) - set(each.schema.to_arrow_schema().names)):
            raise InputError(
                f"{printable(path)} lacks the columns {', '.join(absent)[:200]}, which the card or "
                "the other files have; download it anew (hf download)."
            )
    groups = [
        (path, each, number)
        for path, each in zip(paths, found, strict=True)
        for number in range(each.num_row_groups)
    ]

    def column(name: str) -> list[Any]:
        values: list[Any] = []
        for path in paths:
            with _reading(path):
                part = pq.read_table(path, columns=[name], partitioning=None).column(name)
                if pa.types.is_dictionary(part.type):
                    part = part.cast(part.type.value_type)
                if not pa.types.is_integer(part.type):  # those the caller checks
                    part = cast_array_to_feature(part, features[name])
                values += part.to_pylist()
        return values

    def images(name: str) -> Callable[[int], Entry | None]:
        for path, each in zip(paths, found, strict=True):
            _require_images(each.schema.to_arrow_schema().field(name).type, name, path)
        return _Images(groups, name).entry

    return SampleTable(features=features, files=paths, column=column, images=images)


@contextmanager
def _reading(path: Path, count: int = 1) -> Iterator[None]:
    """What goes wrong while a file is read is told of the file, in one line."""
    try:
        yield
    except InputError:
        raise
    except UNREADABLE as error:
        beside = " and those beside it" * (count > 1)
        raise InputError(
            f"cannot read {printable(path)}{beside}: {in_short(error, 300)}; it is damaged, or not "
            "wholly downloaded."
        ) from error


@dataclass
class _Images:
    """One column, a row group at a time; those that were read last stay in memory."""

    groups: list[tuple[Path, Any, int]]  # file, its metadata and the group's number there, by rows
    name: str  # of the column
    _kept: "OrderedDict[int, _Group]" = field(default_factory=OrderedDict)
    _lock: Any = field(default_factory=Lock)

    def __post_init__(self) -> None:
        sizes = [metadata.row_group(number) for _, metadata, number in self.groups]
        self._bytes = [size.total_byte_size for size in sizes]
        self._ends = [*accumulate(size.num_rows for size in sizes)]

    def entry(self, row: int) -> Entry | None:
        index = bisect_right(self._ends, row)
        value = self._group(index)[row - (self._ends[index - 1] if index else 0)].as_py()
        if isinstance(value, str):
            return {"path": value}
        return {"bytes": value} if isinstance(value, bytes) else value

    def _group(self, index: int) -> Any:
        with self._lock:
            group = self._kept.pop(index, None) or _Group()
            self._kept[index] = group
            while len(self._kept) > 2 and sum(self._bytes[i] for i in self._kept) > _KEPT:
                self._kept.popitem(last=False)
        with group.lock:  # one thread reads while others wait
            if group.column is None:
                path, metadata, number = self.groups[index]
                with _reading(path), pq.ParquetFile(path, metadata=metadata) as file:
                    read = file.read_row_group(number, columns=[self.name], use_threads=False)
                    group.column = read.column(self.name)
            return group.column


@dataclass
class _Group:
    """The rows of a group, once they are read."""

    column: Any = None
    lock: Any = field(default_factory=Lock)


def _require_images(kind: pa.DataType, name: str, path: Path) -> None:
    if pa.types.is_struct(kind):
        inner = [kind.field(i) for i in range(kind.num_fields) if kind.field(i).name == "bytes"]
        kind = inner[0].type if len(inner) == 1 else kind
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (binary or text or pa.types.is_binary_view(kind)):
        raise InputError(f"{printable(path)}: cannot read the images of column {name!r}: {kind}.")


def _plain(schema: pa.Schema) -> pa.Schema:
    """Columns with the words of a dictionary written out."""
    plain = [
        one.with_type(one.type.value_type) if pa.types.is_dictionary(one.type) else one
        for one in schema
    ]
    return pa.schema(plain, schema.metadata)


def _metadata(path: Path) -> Any:
    """What a file says of its rows; one that is damaged, empty or claims too much is refused."""
    require_content(path)
    with _reading(path):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
    rows, size = metadata.num_rows, path.stat().st_size
    if rows == 0:
        raise InputError(f"{printable(path)} has no rows; remove it, or download it again.")
    if rows > size:  # a value that many rows share is counted once
        raise InputError(f"{printable(path)} claims {rows:,} images in {size:,} bytes.")
    files.require_plausible(unpacked, path)
    return metadata


def require_content(path: Path) -> None:
    """Refuse a pointer, and a name that `datasets` would take for an address."""
    if "::" in str(path.absolute()):
        raise InputError(f"cannot read {printable(path)}: its path has '::' in it; rename it.")
    try:
        with path.open("rb") as file:
            why = pointer(file.read(64))
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror}.") from error
    if why:
        raise InputError(f"cannot read {printable(path)}: {why}.")
