"""Tensors out of a torch checkpoint (.ckpt, .pt, .pth), zipped or of before torch 1.6."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.compvis import pickles


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        weights: the tensors of its state dict, on the CPU.
        beside: names of what lies beside the state dict (optimizer, callbacks, counters).
    """

    weights: dict[str, Tensor]
    beside: tuple[str, ...]


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
        loaded = torch.load(path, map_location="cpu", pickle_module=pickles, weights_only=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(
            f"{path} cannot be read as a torch checkpoint ({_reason(error)}); it was cut off or is "
            "something else: compare its size with the source's, and fetch it again."
        ) from error
    return _content(loaded, path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _reason(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
