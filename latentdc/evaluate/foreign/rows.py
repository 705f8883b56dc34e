"""Parquet files with an image and a label column, such as rethinkdc's `image` and `class_id`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Features, Image

from latentdc.data.columns import class_labels, image_column, label_column
from latentdc.data.tables import require_all_shards, require_parquet, split_files
from latentdc.errors import InputError
from latentdc.evaluate.foreign.foreign_set import Read, require_classes
from latentdc.evaluate.foreign.held import FREE, require_held
from latentdc.evaluate.foreign.kinds import SPLIT, parquet_files
from latentdc.evaluate.foreign.naming import class_places
from latentdc.evaluate.foreign.numbers import Numbers
from latentdc.evaluate.foreign.pictures import decode_all
from latentdc.synthetic.synthetic_set import SyntheticSet

BINARY = ("binary", "large_binary")
GROUP = 100  # rows decoded at a time
WANTED = "a set has one of each, such as rethinkdc's image and class_id"


def read_parquet(
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
    source, paths = str(folder), _files(folder)
    try:
        files = [pq.ParquetFile(path) for path in paths]
        features = _features(files[0].schema_arrow)
        label = label_column(features, label if label in features else None, source, WANTED)
        image = image_column(features, None, source, WANTED)
        for file, path in zip(files, paths, strict=True):
            _require_held(file, image, path)
        values = [v for file in files for v in file.read([label])[label].to_pylist()]
        given, names = class_labels(features[label], values, source)
    except InputError:
        raise
    except Exception as error:  # Arrow's, and those of datasets on notes that are not its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot read the parquet files of {source}: {reason}.") from error
    if missing := int((given < 0).sum()):
        raise InputError(
            f"{missing} of {len(given)} rows of {source} have no label; leave such rows out."
        )
    require_classes(given, names, source)  # a class that the file knows and that has no rows
    order, numbering = class_places(names, class_names, source, numbers)
    labels = torch.tensor(order)[given]
    kept = _first(labels.tolist(), ipc)
    by_class = labels[kept].argsort(stable=True)
    places = by_class.argsort().tolist()
    images = decode_all(_encoded(files, image, set(kept), source), places, source, size)
    return SyntheticSet(images, labels[kept][by_class], class_names), numbering


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


def _features(schema: pa.Schema) -> Features:
    """What the columns hold; images also where the Hub's note of their type has been lost."""
    features = Features.from_arrow_schema(schema)
    lost = [name for name, f in features.items() if isinstance(f, dict) and "bytes" in f]
    lost += [name for name, f in features.items() if getattr(f, "dtype", "") in BINARY]
    return Features({**features, **dict.fromkeys(lost, Image())})


def _require_held(file: pq.ParquetFile, image: str, path: Path) -> None:
    """Refuse more rows or bytes than a file of this size can honestly hold."""
    size = path.stat().st_size
    if (rows := file.metadata.num_rows) > size:
        raise InputError(f"{path} claims {rows:,} images in {size:,} bytes.")
    require_held(sum(_unpacked(file, image)), path)


def _unpacked(file: pq.ParquetFile, column: str) -> list[int]:
    """Bytes of a column in each row group, a value that many rows share counted once."""
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    parts = [group.column(index) for group in groups for index in range(group.num_columns)]
    return [
        part.total_uncompressed_size
        for part in parts
        if part.path_in_schema.partition(".")[0] == column
    ]


def _first(labels: list[int], ipc: int | None) -> list[int]:
    """Rows of the first `ipc` images of each class, ascending."""
    seen: Counter[int] = Counter()
    kept = []
    for row, label in enumerate(labels):
        seen[label] += 1
        if ipc is None or seen[label] <= ipc:
            kept.append(row)
    return kept


def _encoded(
    files: list[pq.ParquetFile], column: str, kept: set[int], source: str
) -> Iterator[tuple[str, bytes]]:
    row = 0
    for file in files:
        at_once = FREE // max(1, *_unpacked(file, column))  # of rows that all share one value
        batches = file.iter_batches(batch_size=max(1, min(GROUP, at_once)), columns=[column])
        while (group := _next(batches, source)) is not None:
            for entry in group[column].to_pylist():
                if row in kept:
                    content = entry.get("bytes") if isinstance(entry, dict) else entry
                    if not isinstance(content, bytes):
                        raise InputError(f"row {row} of {source} holds no image.")
                    yield f"row {row} of {source}", content
                row += 1


def _next(batches: Iterator[pa.RecordBatch], source: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError, MemoryError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"cannot read the parquet files of {source}: {reason}.") from error
