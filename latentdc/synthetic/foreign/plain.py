"""Plain tensors of what files of others hold, in place of arrays, lists and their mixtures."""

import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdc.data.files import require_plausible
from latentdc.errors import InputError

# What torch's unpickler raises on damaged files and on those that hold more.
DAMAGED = (
    *(pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError, struct.error),
    zipfile.BadZipFile,
)


def dense(values: Any, what: str, path: Path) -> Tensor:
    """A plain tensor in memory of a tensor, an array, a list of them or a list of numbers.

    Raises:
        InputError: it is something else, or its parts differ in size.
    """
    some = values[0] if isinstance(values, list | tuple) and values else values
    got = f"{'a list of ' * (some is not values)}{getattr(some, 'dtype', type(some).__name__)}"
    forms = f"{what} are a tensor, an array or a list of numbers, got {got}; save them as one"
    try:
        if isinstance(values, list | tuple) and all_are(values, Tensor | np.ndarray):
            parts = [dense(value, what, path) for value in values]
            return joined(torch.stack, parts, 0, what, path)
        if isinstance(values, list | tuple) and all_are(values, int | float | np.number):
            values = np.array(values)
        if isinstance(values, np.ndarray):
            require_plausible(values.nbytes, path)
            values = np.ascontiguousarray(values)
            values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: {forms} ({error}).") from error
    if not isinstance(values, Tensor):
        raise InputError(f"{path}: {forms}.")
    strange = values.is_sparse or values.is_quantized or values.is_meta or values.is_nested
    if strange or values.layout != torch.strided or values.is_complex():
        raise InputError(
            f"{path}: {what} are plain tensors of numbers, got {values.dtype} of layout "
            f"{values.layout} on {values.device}."
        )
    require_plausible(values.numel() * values.element_size(), path)
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return values.to(torch.int64)
    if values.is_floating_point() and values.element_size() == 1:
        return values.detach().float()
    return values.detach()


def all_are(values: Any, kind: Any) -> bool:
    """Whether these are a list, not empty, of such things alone."""
    return (
        isinstance(values, list | tuple)
        and bool(values)
        and all(isinstance(value, kind) for value in values)
    )


def joined(join: Any, parts: Sequence[Tensor], first: int, what: str, path: Path) -> Tensor:
    """Parts of one shape, from its dimension `first` on, as one tensor."""
    if len(sizes := dict.fromkeys(tuple(part.shape[first:]) for part in parts)) > 1:
        raise InputError(
            f"{path}: its {what} have different sizes: {', '.join(map(str, [*sizes][:3]))}."
        )
    require_plausible(sum(part.nbytes for part in parts), path)  # one may stand there many times
    joined: Tensor = join(list(parts))
    return joined
