"""Tables with an image and a label column, such as rethinkdc's `image` and `class_id`.

Parquet files, or what `save_to_disk` of `datasets` wrote.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset, Features, Image

from latentdc.data.hub import class_labels, image_column, label_column, with_images
from latentdc.data.tables import local_tables, require_all_shards, require_parquet, split_files
from latentdc.errors import InputError
from latentdc.synthetic.foreign.contents import FREE, require_plausible
from latentdc.synthetic.foreign.images import decode_all
from latentdc.synthetic.foreign.kinds import SPLIT, is_saved, parquet_files
from latentdc.synthetic.foreign.naming import Read, class_places, require_classes
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.synthetic_set import SyntheticSet, first_of_each

GROUP = 100  # rows decoded at a time
WANTED = "a set has one of each, such as rethinkdc's image and class_id"
Values = Iterator[Any]


def read_rows(
    folder: Path,
    class_names: tuple[str, ...],
    ipc: int | None,
    numbers: Numbers | None = None,
    size: int | None = None,
    label: str | None = None,
) -> Read:
    """The rows of the train split, or of files that name none, in order of class.

    Args:
        folder: of the set.
        class_names: of the test set.
        ipc: images of each class to read.
        numbers: the user's answer to what numbers count.
        size: height and width of the test set's images; None takes any.
        label: label column of the real data, which tells several apart; None without.

    Raises:
        InputError: no such columns, other classes than the test set's, images that do not fit.
    """
    source = str(folder)
    features, values_of = _saved(folder) if is_saved(folder) else _parquet(folder)
    try:
        label = label_column(features, label if label in features else None, source, WANTED)
        image = image_column(features, None, source, WANTED)
        encoded = values_of(image)  # refuses what is too large before labels are compared
        given, names = class_labels(features[label], list(values_of(label)), source)
    except InputError:
        raise
    except Exception as error:  # Arrow's, and those of datasets on notes that are not its own
        raise _unreadable(source, error) from error
    if missing := int((given < 0).sum()):
        raise InputError(
            f"{missing} of {len(given)} rows of {source} have no label; leave such rows out."
        )
    require_classes(given, names, source)  # a class that the file knows and that has no rows
    order, numbering = class_places(names, class_names, source, numbers)
    labels = torch.tensor(order)[given]
    kept = list(range(len(labels))) if ipc is None else first_of_each(labels, ipc)
    by_class = labels[kept].argsort(stable=True)
    places = by_class.argsort().tolist()
    images = decode_all(_encoded(encoded, set(kept), source), places, source, size)
    return SyntheticSet(images, labels[kept][by_class], class_names), numbering


def _encoded(values: Values, kept: set[int], source: str) -> Iterator[tuple[str, bytes]]:
    for row, entry in enumerate(values):
        if row in kept:
            content = entry.get("bytes") if isinstance(entry, dict) else entry
            if not isinstance(content, bytes):
                raise InputError(f"row {row} of {source} holds no image.")
            yield f"row {row} of {source}", content


def _parquet(folder: Path) -> tuple[Mapping[str, Any], Callable[[str], Values]]:
    """The columns of parquet files, and how to read the values of one."""
    source, paths = str(folder), _files(folder)
    try:
        files = [pq.ParquetFile(path) for path in paths]
        features = with_images(Features.from_arrow_schema(files[0].schema_arrow))
    except Exception as error:  # Arrow's, and those of datasets
        raise _unreadable(source, error) from error

    def values(column: str) -> Values:
        for file, path in zip(files, paths, strict=True):
            _require_plausible(file, column, path)
        return (value for file in files for value in _values(file, column, source))

    return features, values


def _files(folder: Path) -> list[Path]:
    """Whole parquet files of the set, without those of other splits."""
    names = {path.relative_to(folder).as_posix(): path for path in parquet_files(folder)}
    splits = split_files(names, folder)
    if len(splits) > 1 and not splits.keys() & {SPLIT, ""}:
        raise InputError(
            f"{folder} has parquet files of the splits {', '.join(splits)} and none of {SPLIT}; "
            f"rename those of the set, such as {SPLIT}.parquet."
        )
    paths = splits.get(SPLIT) or splits.get("") or next(iter(splits.values()))
    require_all_shards(paths, folder)
    for path in paths:
        require_parquet(path)
    return paths


def _require_plausible(file: pq.ParquetFile, column: str, path: Path) -> None:
    """Refuse more rows or bytes than a file of this size can honestly hold."""
    size = path.stat().st_size
    if (rows := file.metadata.num_rows) > size:
        raise InputError(f"{path} claims {rows:,} images in {size:,} bytes.")
    require_plausible(sum(_unpacked(file, column)), path)


def _values(file: pq.ParquetFile, column: str, source: str) -> Values:
    at_once = FREE // max(1, *_unpacked(file, column))  # of rows that all share one value
    batches = file.iter_batches(batch_size=max(1, min(GROUP, at_once)), columns=[column])
    while (group := _next(batches, source)) is not None:
        yield from group[column].to_pylist()


def _unpacked(file: pq.ParquetFile, column: str) -> list[int]:
    """Bytes of a column in each row group, a value that many rows share counted once."""
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    parts = [group.column(index) for group in groups for index in range(group.num_columns)]
    return [
        part.total_uncompressed_size
        for part in parts
        if part.path_in_schema.partition(".")[0] == column
    ]


def _next(batches: Iterator[pa.RecordBatch], source: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _unreadable(source, error) from error


def _saved(folder: Path) -> tuple[Mapping[str, Any], Callable[[str], Values]]:
    """The columns that `save_to_disk` wrote, of the split `train` or the only one."""
    splits = local_tables(folder, None)
    if len(splits) > 1 and SPLIT not in splits:
        raise InputError(f"{folder} has the splits {', '.join(splits)} and none of {SPLIT}.")
    table: Dataset = (splits.get(SPLIT) or next(iter(splits.values())))()
    features = with_images(table.features)

    def values(column: str) -> Values:
        one = table.select_columns(column)
        if isinstance(features[column], Image):
            one = one.cast_column(column, Image(decode=False))
        return (row[column] for row in one)

    return features, values


def _unreadable(source: str, error: Exception) -> InputError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return InputError(f"cannot read the tables of {source}: {reason}.")
