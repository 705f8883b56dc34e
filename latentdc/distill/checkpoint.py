"""The state of a distillation on disk, by class, so that another number of processes can go on.

A checkpoint is the folder `step-00000100`: one safetensors file per process with the tensors of
each of its classes, and `state.json`. It is written under a temporary name and renamed, then older
ones are removed: there is always one whole checkpoint.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from safetensors import safe_open
from torch import Tensor

from latentdc.distill.latents import Latents
from latentdc.errors import InputError

PARTS = ("z", "c", "noise", "z_momentum", "c_momentum")


def save(
    folder: Path,
    step: int,
    latents: Latents,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    facts: Mapping[str, Any],
) -> None:
    """Write the state after `step` updates; all processes call this together.

    Args:
        folder: `checkpoints` of the run.
        step: updates that are done.
        latents: of the classes that this process owns.
        optimizer: over z and c.
        accelerator: names the process.
        facts: kept in `state.json` beside the step.

    Raises:
        OSError: the disk is full; the former checkpoint stays, and nothing of this one.
    """
    final = folder / f"step-{step:08d}"
    part = folder / f"{final.name}.part"
    try:
        _write(part, step, latents, optimizer, accelerator, facts)
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
) -> None:
    """Fill the folder `part` with what `save` keeps."""
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / "state.json").write_text(json.dumps({"step": step, **facts}, indent=2) + "\n")
    accelerator.wait_for_everyone()
    # As bytes: safetensors' own writer does not raise OSError when the disk is full.
    content = safetensors.torch.save(_by_class(latents, optimizer))
    (part / f"process-{accelerator.process_index:04d}.safetensors").write_bytes(content)
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
        if facts.get(name, value) != value:
            raise InputError(
                f"{checkpoint} was made with {name} {facts[name]!r}, this run has {value!r}; "
                "give it a folder of its own."
            )
    return int(facts["step"])


def restore(
    checkpoint: Path, classes: range, latents: Latents, optimizer: torch.optim.Optimizer
) -> None:
    """Put the saved tensors of `classes` into `latents` and `optimizer`, in place."""
    saved: dict[str, list[Tensor]] = {name: [] for name in PARTS}
    files = [safe_open(path, "pt") for path in sorted(checkpoint.glob("*.safetensors"))]
    home = {key: file for file in files for key in file.keys()}
    for label in classes:
        for name in PARTS:
            if (key := _key(label, name)) in home:
                saved[name].append(home[key].get_tensor(key))
    device = latents.z.device
    with torch.no_grad():
        for name, tensor in (("z", latents.z), ("c", latents.c), ("noise", latents.noise)):
            if tensor is not None:
                tensor.copy_(torch.cat(saved[name]))
    for name, tensor in (("z_momentum", latents.z), ("c_momentum", latents.c)):
        if tensor is not None and saved[name]:
            optimizer.state[tensor]["momentum_buffer"] = torch.cat(saved[name]).to(device)


def _by_class(latents: Latents, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor | None] = {"z": latents.z, "c": latents.c, "noise": latents.noise}
    for name in ("z", "c"):
        tensor = tensors[name]
        state = {} if tensor is None else optimizer.state.get(tensor, {})
        tensors[f"{name}_momentum"] = state.get("momentum_buffer")
    classes, counts = latents.labels.unique_consecutive(return_counts=True)
    written = {}
    for name, tensor in tensors.items():
        if tensor is not None:
            parts = tensor.detach().cpu().split(counts.tolist())
            for label, part in zip(classes.tolist(), parts, strict=True):
                written[_key(label, name)] = part.clone()
    return written


def _key(label: int, name: str) -> str:
    return f"{label:05d}.{name}"
