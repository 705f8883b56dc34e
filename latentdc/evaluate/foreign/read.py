"""Open a foreign set of any kind."""

from pathlib import Path

from latentdc.data.dataset import Dataset
from latentdc.data.preprocessing import preprocessing
from latentdc.errors import InputError
from latentdc.evaluate.foreign.foreign_set import Read
from latentdc.evaluate.foreign.kinds import Kind
from latentdc.evaluate.foreign.numbers import Numbers
from latentdc.recipe import Data


def open_foreign(
    path: Path,
    kind: Kind,
    train: Dataset,
    data: Data,
    ipc: int | None,
    numbers: Numbers | None = None,
) -> Read:
    """The set at `path` with the classes of `train`.

    Args:
        path: of a folder or file.
        kind: what it holds.
        train: names the classes; tensors that were whitened need its images.
        data: of the recipe, whose preprocessing tensors were made with.
        ipc: images of each class to read, the first ones; None reads all.
        numbers: whether numbers of classes are `names` or `positions`; None asks where the set
            leaves it open.

    Raises:
        InputError: it cannot be read, or its classes are not those of `train`.
    """
    # Readers are imported where they are needed: `datasets` takes a second.
    try:
        if kind == "images":
            from latentdc.evaluate.foreign.images import read_images

            return read_images(path, train.class_names, ipc, numbers, train.resolution)
        if kind == "rows":
            from latentdc.evaluate.foreign.rows import read_parquet

            classes, size = train.class_names, train.resolution
            return read_parquet(path, classes, ipc, numbers, size, data.label)
        from latentdc.evaluate.foreign.tensors import read_tensors

        seen = preprocessing(data, train)
        return read_tensors(path, train.class_names, ipc, seen, numbers)
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; read less of it with --ipc.") from error
    except (PermissionError, RecursionError) as error:  # folders in folders without end
        raise InputError(f"cannot read {path}: {error}.") from error
