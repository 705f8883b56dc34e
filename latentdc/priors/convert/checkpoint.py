"""Tensors out of a torch checkpoint (.ckpt, .pt, .pth), without running what is in it.

Checkpoints of trainers also hold objects of the packages that made them. A pickle names what it
needs by module and name, and calls it; here every such name has one of three fates, and none is
ever imported:

- _REBUILDS are what a saved tensor consists of, and are real;
- classes and functions of other packages, and harmless ones of Python, become `Placeholder`s, which
  take every call without doing anything;
- anything else of Python or torch (`os.system`, `builtins.eval`, `torch.load`, ...) has no business
  in a file of weights and refuses it.
"""

import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, _utils

from latentdc.errors import InputError

_REBUILDS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _utils._rebuild_parameter,
}
_HARMLESS_MODULES = {
    *("argparse", "collections", "datetime", "decimal", "enum", "fractions", "numbers", "pathlib"),
    *("typing", "uuid"),
}
_HARMLESS = {
    *("_codecs.encode", "copyreg._reconstructor", "functools.partial", "types.SimpleNamespace"),
    *("torch.Size", "torch.device"),
    *(
        f"builtins.{name}"
        for name in "bool bytearray bytes complex dict float frozenset int list object range set "
        "slice str tuple".split()
    ),
    *(str(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)),
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    weights: dict[str, Tensor]  # the tensors of its state dict, on the CPU
    beside: tuple[str, ...]  # what lies beside the state dict (optimizer, callbacks, counters)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `["state_dict"]`, or a bare state dict, without running code from the file.

    Raises:
        InputError: no such file, cut off, not a checkpoint, or with code in it.
    """
    if not path.is_file():
        raise InputError(f"no file {path}; give a checkpoint such as model.ckpt.")
    try:
        if _is_script(path):
            raise InputError("it is a TorchScript program; the state dict of a model is needed.")
        loaded = torch.load(
            path, map_location="cpu", pickle_module=sys.modules[__name__], weights_only=False
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a broken pickle can raise anything
        words = str(error).strip().splitlines()
        reason = ": ".join([type(error).__name__, *words[:1]])
        raise InputError(
            f"{path} cannot be read as a torch checkpoint ({reason}); it was cut off or is "
            "something else: compare its size with the source's, and fetch it again."
        ) from error
    return _content(loaded, path)


def _is_script(path: Path) -> bool:
    """Whether `torch.load` would hand the file to TorchScript, seen with torch's own reader."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    return "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records()


def _content(loaded: Any, path: Path) -> Checkpoint:
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(loaded).__name__} and no state dict.")
    beside = () if state is loaded else tuple(str(k) for k in loaded if k != "state_dict")
    weights = {str(k): v.detach() for k, v in state.items() if isinstance(v, Tensor)}
    if not weights:
        raise InputError(f"{path} holds no tensors; its keys are {list(map(str, state))[:5]}.")
    return Checkpoint(weights, beside)


class Placeholder:
    """Stands for an object that is not needed; whatever a pickle does to it has no effect."""

    def __new__(cls, *_: Any, **__: Any) -> "Placeholder":
        """Make one with any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """An object's attributes."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """An entry of a kind of dictionary."""

    def append(self, item: Any) -> None:
        """An item of a kind of list."""

    def extend(self, items: Any) -> None:
        """Several of them."""

    def add(self, item: Any) -> None:
        """An item of a kind of set."""


class Unpickler(pickle.Unpickler):
    """Decides the fate of each name; torch's own loader adds storages to it."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for.

        Raises:
            InputError: for a name of Python or torch that weights have no use for.
        """
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if full in _REBUILDS:  # anew each time: a pickle can set attributes of what it gets
            return partial(_REBUILDS[full])
        root = module.partition(".")[0]
        foreign = root not in sys.stdlib_module_names and root != "torch"
        if foreign or module in _HARMLESS_MODULES or full in _HARMLESS:
            return type(name, (Placeholder,), {"__module__": module})
        raise InputError(
            f"the file wants to use {full}, which weights have no need of; nothing of it was run. "
            "If you trust whoever made it, let them save its state_dict alone."
        )


def load(file: Any, **options: Any) -> Any:
    """As `pickle.load`; beside `Unpickler`, all that `torch.load` takes from a pickle_module."""
    return Unpickler(file, **options).load()
