"""Files of tensors that are read as they were written, or not at all.

The header of a safetensors or parquet file holds a checksum of all else that is read of it, so that
a changed byte of a disk, a copy or an editor is an error, and never another result.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdc.disk import require_file

_KEY = "sha256"  # in the header
_DAMAGED = "it is not as it was written"


def checksum(tensors: Mapping[str, Tensor], about: str = "") -> str:
    """64 hex digits of tensors, with their names, types and shapes, and of a text beside them."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write one file, whole or not at all; several processes may write the same one at a time.

    Its name counts too, so that no file is taken for its neighbour.

    Raises:
        OSError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    # As bytes: safetensors' own writer does not raise OSError when the disk is full.
    try:
        part.write_bytes(
            safetensors.torch.save(dict(tensors), {_KEY: checksum(tensors, path.name)})
        )
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Tensor]:
    """The tensors that `save` wrote, on the CPU; large ones are mapped from the file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not as it was written.
    """
    require_file(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            written = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise ValueError(f"it is cut off or no safetensors file: {error}") from error
    if written != checksum(tensors, path.name):
        raise ValueError(_DAMAGED)
    return tensors


def save_table(
    columns: Mapping[str, Tensor], about: Mapping[str, object], kind: str, path: Path
) -> None:
    """Write columns and what is told of them as one parquet file, whole or not at all.

    Args:
        columns: (N,) each.
        about: in JSON's types.
        kind: of file, by which `read_table` knows it.
        path: of the file.
    """
    told = json.dumps(about)
    written = json.dumps({"about": told, _KEY: checksum(columns, told)})
    table = pa.table({name: tensor.numpy() for name, tensor in columns.items()})
    part = path.with_name(f"{path.name}.part")
    # Absolute, because a:b would be taken for a URL.
    pq.write_table(table.replace_schema_metadata({kind: written}), part.absolute())
    os.replace(part, path)


def read_table(table: Any, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Columns and what is told of them; None of a table that `save_table` did not write.

    Args:
        table: of pyarrow.
        kind: as of `save_table`.

    Raises:
        ValueError: it is not as it was written.
    """
    written = (table.schema.metadata or {}).get(kind.encode())
    if written is None:
        return None
    try:
        found = json.loads(written)
        columns = {name: torch.tensor(table[name].to_numpy()) for name in table.column_names}
        if found[_KEY] == checksum(columns, found["about"]):
            return columns, json.loads(found["about"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError):
        pass
    raise ValueError(_DAMAGED)
