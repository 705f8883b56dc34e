"""The state of a distillation on disk, by class, so that another number of processes can go on.

A checkpoint is the folder `step-00000100`: safetensors files that each process writes of its own
classes, one of what the objective has learned, `state.json`, and the checksums of all of them. It
is written under a temporary name, brought to the disk and renamed. The last two are kept: a run
goes on from the newest one that is as it was written.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import safe_open
from torch import Tensor

from latentdc import launch
from latentdc.distill.latents import Latents, Parts, leaves
from latentdc.errors import InputError
from latentdc.io import read_json, require_file, sync

STATE, OBJECTIVE, CHECKSUMS = "state.json", "objective.safetensors", "checksums.json"
FILE = 100  # classes in a file, so that writing needs little memory beside the latents
KEPT = 2  # checkpoints

Momentum = dict[tuple[str, int], Tensor]  # by ("z" or "c", class)
ByClass = Mapping[int, Mapping[str, Tensor]]
KNOWN = "known."


def save(
    folder: Path,
    step: int,
    latents: Latents,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    facts: Mapping[str, Any],
    learned: Mapping[str, Tensor],
    known: ByClass | None = None,
) -> None:
    """Write the state after `step` updates; all processes call this together.

    Args:
        folder: `checkpoints` of the run.
        step: updates that are done.
        latents: of the classes that this process owns.
        optimizer: over z and c.
        accelerator: names the process.
        facts: kept in `state.json` beside the step.
        learned: state of the objective, the same in every process.
        known: by class, what else is kept of the classes that this process owns.

    Raises:
        OSError: the disk is full; the former checkpoints stay, and nothing of this one.
    """
    final = folder / f"step-{step:08d}"
    part = folder / f"{final.name}.part"
    try:
        _write(part, step, latents, optimizer, accelerator, facts, learned, known or {})
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)  # a damaged one
        os.replace(part, final)
        sync(folder)
        kept = [path for path in whole(folder) if _step(path) <= step][-KEPT:]
        for old in folder.glob("step-*"):
            if old not in kept:  # those further on are damaged, or this run would be there too
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _write(
    part: Path,
    step: int,
    latents: Latents,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    facts: Mapping[str, Any],
    learned: Mapping[str, Tensor],
    known: ByClass,
) -> None:
    """Fill the folder `part` with what `save` keeps."""
    written: list[tuple[str, str]] = []  # names and checksums

    def put(name: str, content: bytes) -> None:
        # As bytes: safetensors' own writer does not raise OSError when the disk is full.
        (part / name).write_bytes(content)
        sync(part / name)
        written.append((name, hashlib.sha256(content).hexdigest()))

    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        put(STATE, _json({"step": step, **facts}))
        put(OBJECTIVE, safetensors.torch.save(dict(learned)))
    accelerator.wait_for_everyone()
    for number, start in enumerate(range(0, len(latents.classes), FILE)):
        classes = latents.classes[start : start + FILE]
        tensors = _by_class(latents, optimizer, classes)
        for label in classes:
            tensors |= {_key(label, KNOWN + name): t for name, t in known.get(label, {}).items()}
        name = f"process-{accelerator.process_index:04d}-{number:04d}.safetensors"
        put(name, safetensors.torch.save(tensors))
    files = dict(sorted(gather_object(written)))  # after which all processes have written theirs
    if accelerator.is_main_process:
        put(CHECKSUMS, _json({"files": files, "list": _of_list(files)}))
        sync(part)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _of_list(files: Mapping[str, str]) -> str:
    """Checksum of the checksums."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def whole(folder: Path) -> list[Path]:
    """All checkpoints that were written to the end, ascending by step."""
    named = (path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))
    return sorted(named, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def newest_sound(folder: Path, accelerator: Accelerator) -> Path | None:
    """The newest checkpoint that is as it was written, on all processes the same; None: no one yet.

    One that is damaged is passed over, which a warning says.

    Raises:
        InputError: there are some, and all are damaged.
    """

    def look() -> str | None:
        wrong: list[str] = []
        for path in reversed(whole(folder)):
            if (damage := damage_of(path)) is None:
                if wrong:
                    told = f"{folder}: {'; '.join(wrong)}; going on from {path.name}."
                    print(f"latentdc: warning: {told}", file=sys.stderr)
                return path.name
            wrong.append(f"{path.name} is damaged ({damage})")
        if wrong:
            raise InputError(
                f"{folder}: {'; '.join(wrong)}; bring back a copy, or remove this folder to distil "
                "from the start."
            )
        return None

    name = launch.main_alone(accelerator, look)
    return None if name is None else folder / name


def damage_of(checkpoint: Path) -> str | None:
    """What is not as `save` wrote it, None where all of it is."""
    try:
        files = _files(checkpoint)
        for name, checksum in files.items():
            require_file(checkpoint / name)
            with (checkpoint / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                    return f"{name} is not as it was written"
        step = read_json(checkpoint / STATE)["step"]
        return None if step == _step(checkpoint) else f"{STATE} is of step {step}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name}: {error.strerror or error}"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{CHECKSUMS} is not as it was written"


def _files(checkpoint: Path) -> dict[str, str]:
    """Checksums of the files of a checkpoint, by their names.

    Raises:
        OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError: the list is
            damaged or absent.
    """
    content = read_json(checkpoint / CHECKSUMS)
    files: dict[str, str] = content["files"]
    if content["list"] != _of_list(files):
        raise ValueError(f"{CHECKSUMS} is not as it was written")
    return files


def require(checkpoint: Path, wanted: Mapping[str, Any]) -> int:
    """The number of updates that a checkpoint has behind it.

    Raises:
        InputError: a fact in its `state.json` differs from the one in `wanted`.
    """
    facts = read_json(checkpoint / STATE)
    for name, value in wanted.items():
        found = facts.get(name)
        if found != value:
            how = "launch as before, or " if name == "precision" else ""
            raise InputError(
                f"{checkpoint} was made with {name} {found!r}, this run has {value!r}; "
                f"{how}give it a folder of its own."
            )
    return int(facts["step"])


def restore(
    checkpoint: Path, classes: Sequence[int], device: torch.device | str
) -> tuple[Latents, Momentum]:
    """The saved latents of `classes` and their momentum, read from whichever files hold them."""
    files = [safe_open(path, "pt") for path in _of_classes(checkpoint)]
    home = {key: file for file in files for key in file.keys()}

    def saved(name: str) -> Parts | None:
        keys = [_key(label, name) for label in classes]
        if not all(key in home for key in keys):
            return None
        return tuple(home[key].get_tensor(key).to(device) for key in keys)

    z, c = saved("z"), saved("c")
    assert z is not None, f"{checkpoint} lacks a class"
    momentum = {
        (name, label): home[key].get_tensor(key).to(device)
        for name in ("z", "c")
        for label in classes
        if (key := _key(label, f"{name}_momentum")) in home
    }
    return Latents(tuple(classes), len(z[0]), leaves(z), c and leaves(c), saved("noise")), momentum


def known(checkpoint: Path, classes: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    """What else is kept of `classes`, whoever owned them."""
    found: dict[int, dict[str, Tensor]] = {label: {} for label in classes}
    for path in _of_classes(checkpoint):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                label, name = int(key[:5]), key[6:]
                if label in found and name.startswith(KNOWN):
                    found[label][name.removeprefix(KNOWN)] = file.get_tensor(key)
    return {label: tensors for label, tensors in found.items() if tensors}


def learned(checkpoint: Path) -> dict[str, Tensor]:
    """The saved state of the objective."""
    return safetensors.torch.load_file(checkpoint / OBJECTIVE)


def _of_classes(checkpoint: Path) -> list[Path]:
    """The files that processes wrote of their classes, and no others that lie beside them."""
    return [checkpoint / name for name in _files(checkpoint) if name.startswith("process-")]


def restore_momentum(
    optimizer: torch.optim.Optimizer, latents: Latents, momentum: Momentum
) -> None:
    """Give every class its momentum back; one that no step has met has none."""
    for name, parts in (("z", latents.z), ("c", latents.c)):
        for label, part in zip(latents.classes, parts or (), strict=False):
            if (name, label) in momentum:
                optimizer.state[part]["momentum_buffer"] = momentum[name, label]


def _by_class(
    latents: Latents, optimizer: torch.optim.Optimizer, classes: Sequence[int]
) -> dict[str, Tensor]:
    picked = latents.pick(classes)
    written: dict[str, Tensor] = {}
    for name, parts in (("z", picked.z), ("c", picked.c), ("noise", picked.noise)):
        for label, part in zip(picked.classes, parts or (), strict=False):
            velocity = optimizer.state.get(part, {}).get("momentum_buffer")
            written[_key(label, name)] = part
            if velocity is not None:
                written[_key(label, f"{name}_momentum")] = velocity
    return {key: tensor.detach().cpu().clone() for key, tensor in written.items()}


def _key(label: int, name: str) -> str:
    return f"{label:05d}.{name}"
