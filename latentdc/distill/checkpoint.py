"""The state of a distillation on disk, by class, so that another number of processes can go on.

A checkpoint is the folder `step-00000100`: safetensors files that each process writes of its own
classes, one of what the objective has learned, and `state.json`. It is written under a temporary
name and renamed, then older ones are removed: there is always one whole checkpoint.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from safetensors import safe_open
from torch import Tensor

from latentdc.distill.latents import Latents, Parts, leaves
from latentdc.errors import InputError

OBJECTIVE = "objective.safetensors"
FILE = 100  # classes in a file, so that writing needs little memory beside the latents

Momentum = dict[tuple[str, int], Tensor]  # by ("z" or "c", class)
ByClass = Mapping[int, Mapping[str, Tensor]]
KNOWN = "known."
UNSAID = {"precision": "no"}  # what the absence of a fact means, in checkpoints from before it


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
        OSError: the disk is full; the former checkpoint stays, and nothing of this one.
    """
    final = folder / f"step-{step:08d}"
    part = folder / f"{final.name}.part"
    try:
        _write(part, step, latents, optimizer, accelerator, facts, learned, known or {})
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
        for old in folder.glob("step-*"):
            if old != final:
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
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / "state.json").write_text(json.dumps({"step": step, **facts}, indent=2) + "\n")
        (part / OBJECTIVE).write_bytes(safetensors.torch.save(dict(learned)))
    accelerator.wait_for_everyone()
    for number, start in enumerate(range(0, len(latents.classes), FILE)):
        # As bytes: safetensors' own writer does not raise OSError when the disk is full.
        classes = latents.classes[start : start + FILE]
        tensors = _by_class(latents, optimizer, classes)
        for label in classes:
            tensors |= {_key(label, KNOWN + name): t for name, t in known.get(label, {}).items()}
        name = f"process-{accelerator.process_index:04d}-{number:04d}.safetensors"
        (part / name).write_bytes(safetensors.torch.save(tensors))
    accelerator.wait_for_everyone()


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    whole = [path for path in folder.glob("step-*") if path.suffix != ".part"]
    return max(whole, default=None)


def require(checkpoint: Path, wanted: Mapping[str, Any]) -> int:
    """The number of updates that a checkpoint has behind it.

    Raises:
        InputError: a fact in its `state.json` differs from the one in `wanted`.
    """
    facts = json.loads((checkpoint / "state.json").read_text())
    for name, value in wanted.items():
        found = facts.get(name, UNSAID.get(name, value))
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
    files = [safe_open(path, "pt") for path in sorted(checkpoint.glob("process-*.safetensors"))]
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
    for path in sorted(checkpoint.glob("process-*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                label, name = int(key[:5]), key[6:]
                if label in found and name.startswith(KNOWN):
                    found[label][name.removeprefix(KNOWN)] = file.get_tensor(key)
    return {label: tensors for label, tensors in found.items() if tensors}


def learned(checkpoint: Path) -> dict[str, Tensor]:
    """The saved state of the objective; empty in checkpoints from before there was one."""
    path = checkpoint / OBJECTIVE
    return safetensors.torch.load_file(path) if path.is_file() else {}


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
