"""Parquet files with an image and a label column, such as rethinkdc's `image` and `class_id`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Features, Image

from latentdc.data.columns import class_labels, image_column, label_column
from latentdc.errors import InputError
from latentdc.evaluate.foreign.foreign_set import ForeignSet, require_classes
from latentdc.evaluate.foreign.kinds import parquet_files
from latentdc.evaluate.foreign.naming import class_places
from latentdc.evaluate.foreign.pictures import decode_all

GROUP = 100  # rows decoded at a time
WANTED = "a set has one of each, such as rethinkdc's image and class_id"


def read_parquet(folder: Path, class_names: tuple[str, ...], ipc: int | None) -> ForeignSet:
    """The rows of the train split, or of all files where none is called so, in order of class.

    Raises:
        InputError: no such columns, other classes than the test set's, images that do not fit.
    """
    every = parquet_files(folder)
    paths = [path for path in every if path.name.startswith("train")] or every
    source = str(folder)
    try:
        files = [pq.ParquetFile(path) for path in paths]
        features = _features(files[0].schema_arrow)
        label = label_column(features, None, source, WANTED)
        image = image_column(features, None, source, WANTED)
        values = [v for file in files for v in file.read([label])[label].to_pylist()]
    except (pa.ArrowException, KeyError) as error:
        raise InputError(f"cannot read the parquet files of {source}: {error}.") from error
    given, names = class_labels(features[label], values, source)
    require_classes(given, names, source)  # a class that the file knows and that has no rows
    labels = torch.tensor(class_places(names, class_names, source))[given]
    kept = _first(labels.tolist(), ipc)
    by_class = labels[kept].argsort(stable=True)
    places = by_class.argsort().tolist()
    images = decode_all(_encoded(files, image, set(kept), source), places, source)
    return ForeignSet(images, labels[kept][by_class], class_names)


def _features(schema: pa.Schema) -> Features:
    """What the columns hold; images also where the Hub's note of their type has been lost."""
    features = Features.from_arrow_schema(schema)
    lost = [name for name, f in features.items() if isinstance(f, dict) and "bytes" in f]
    return Features({**features, **dict.fromkeys(lost, Image())})


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
        for group in file.iter_batches(batch_size=GROUP, columns=[column]):
            for entry in group[column].to_pylist():
                if row in kept:
                    if entry is None or entry["bytes"] is None:
                        raise InputError(f"row {row} of {source} holds no image.")
                    yield f"row {row} of {source}", entry["bytes"]
                row += 1
