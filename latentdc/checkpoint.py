"""What a run folder does for a method: checkpoints, measures of its steps, pictures, large tensors.

A checkpoint is the folder `step-00000100`: safetensors files that each process writes of its own
classes, so that another number of processes can go on, one of what all processes share,
`state.json`, and the checksums of all of them. It is written under a temporary name, forced to the
disk and renamed. The last two are kept: a run goes on from the newest one that is as it was
written.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import safe_open
from torch import Tensor

from latentdc import io, runtime
from latentdc.arguments import path_of, require_a
from latentdc.errors import InputError
from latentdc.images import mapped_file
from latentdc.methods.context import ByClass, Context, Fill, State
from latentdc.pictures import save_grid
from latentdc.ranks import say
from latentdc.run_folder import CHECKPOINTS, METRICS
from latentdc.tracking import StepFile, track_picture

_STATE, _SHARED, _CHECKSUMS = "state.json", "objective.safetensors", "checksums.json"
_FILE = 100  # classes in a file, so that writing needs little memory beside the latents
KEPT = 2  # checkpoints
_DECODED = "decoded.bin"  # in the run folder until all processes have mapped it


def in_folder(folder: str | Path, context: Context) -> Context:
    """A context that keeps the state of a method in a folder, and goes on from what is there.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> prior = latentdc.load_prior(latentdc.PriorSettings(kind="pixel"), resolution=8)
        >>> matched = latentdc.ObjectiveSettings(network="convnet3@8", batch=16)
        >>> objective = latentdc.build_objective(matched, num_classes=10, resolution=8)
        >>> context = latentdc.in_folder("begun", latentdc.Context(ipc=1))  # goes on from there
        >>> latentdc.match(train, prior, objective, latentdc.Matching(steps=2, lr_c=0), context)
        SyntheticSet(10 images of 8 px, uint8, 10 classes: '0', '1', '2', ...; with z)
    """
    require_a(Context, context, "context", "such as Context(ipc=10, train=train)")
    folder, accelerator = path_of(folder, "folder"), context.accelerator
    begun = False  # a finished state may only be read
    with suppress(OSError):
        begun = bool(whole(folder / CHECKPOINTS))
    if not begun:
        io.require_writable(folder, "folder")
    return replace(
        context,
        load_state=partial(load, folder / CHECKPOINTS, accelerator),
        save_state=partial(save, folder / CHECKPOINTS, accelerator),
        on_step=StepFile(folder / METRICS, accelerator, context.on_step),
        show=partial(_show, folder / "grids", accelerator),
        large=partial(_mapped, folder / _DECODED, accelerator),
    )


def _show(
    folder: Path,
    accelerator: Accelerator,
    step: int,
    images: Tensor,
    labels: Tensor,
    class_names: tuple[str, ...],
) -> None:
    """Draw the images of a step, and tell the trackers."""
    path = folder / f"step-{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_grid(path, images, labels, class_names)
    track_picture(accelerator, path, step)


def _mapped(
    path: Path, accelerator: Accelerator, shape: torch.Size, dtype: torch.dtype, fill: Fill
) -> Tensor:
    """A tensor that the main process fills in a file, mapped by all; the file's name is gone."""
    to_fill = None
    if accelerator.is_main_process:
        with path.open("w+b") as file:
            file.truncate(shape.numel() * dtype.itemsize)
            try:
                io.reserve(file)
            except OSError:
                path.unlink()
                raise
        flat = torch.from_file(str(path), shared=True, size=shape.numel(), dtype=dtype)
        to_fill = flat.view(shape)
    fill(to_fill)
    accelerator.wait_for_everyone()
    images = mapped_file(path, dtype).view(shape)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        path.unlink()
    return images


def save(folder: Path, accelerator: Accelerator, state: State) -> None:
    """Write a state; all processes call this together. On a full disk the last ones stay."""
    require_a(State, state, "state", "a latentdc.methods.context.State, which says its step")
    final = folder / f"step-{state.step:08d}"
    part = folder / f"{final.name}.part"
    try:
        _write(part, state, accelerator)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)  # a damaged one
        io.move_into_place(part, final)
        kept = [path for path in whole(folder) if _step(path) <= state.step][-KEPT:]
        for old in folder.glob("step-*"):
            if old not in kept:  # those further on are damaged, or this run would be there too
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _write(part: Path, state: State, accelerator: Accelerator) -> None:
    """Fill the folder `part` with what `save` keeps."""
    written: list[tuple[str, str]] = []  # names and checksums

    def put(name: str, content: bytes) -> None:
        # As bytes: safetensors' own writer does not raise OSError when the disk is full.
        (part / name).write_bytes(content)
        io.sync(part / name)
        written.append((name, io.file_hash(part / name)))

    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        put(_STATE, _json({"step": state.step, **state.facts}))
        put(_SHARED, safetensors.torch.save(dict(state.shared)))
    accelerator.wait_for_everyone()
    for number, start in enumerate(range(0, len(state.classes), _FILE)):
        tensors = {
            f"{label:05d}.{name}": tensor
            for label, named in state.tensors(state.classes[start : start + _FILE]).items()
            for name, tensor in named.items()
        }
        name = f"process-{accelerator.process_index:04d}-{number:04d}.safetensors"
        put(name, safetensors.torch.save(tensors))
    files = dict(sorted(gather_object(written)))  # after which all processes have written theirs
    if accelerator.is_main_process:
        put(_CHECKSUMS, _json({"files": files, "list": io.fingerprint(files)}))
        io.sync(part)


def load(folder: Path, accelerator: Accelerator) -> State | None:
    """The newest state that is as it was written, on all processes the same; None: no one yet.

    One that is damaged is passed over, which a warning says; where all are, that is refused.
    """

    def newest() -> str | None:
        wrong: list[str] = []
        for path in reversed(whole(folder)):
            if (damage := _damage_of(path)) is None:
                if wrong:
                    say("warning", f"{folder}: {'; '.join(wrong)}; going on from {path.name}.")
                return path.name
            wrong.append(f"{path.name} is damaged ({damage})")
        if wrong:
            raise InputError(
                f"{folder}: {'; '.join(wrong)}; bring back a copy, or remove this folder to distil "
                "from the start."
            )
        return None

    name = runtime.main_alone(accelerator, newest)
    return None if name is None else read(folder / name)


def read(checkpoint: Path) -> State:
    """The state in a sound checkpoint; its tensors are read when they are asked for."""

    def tensors(classes: Sequence[int]) -> ByClass:
        """Read from whichever files hold them; those that lie beside the listed ones are left."""
        found: ByClass = {label: {} for label in classes}
        for name in _files(checkpoint):
            if name.startswith("process-"):
                with safe_open(checkpoint / name, "pt") as file:
                    for key in file.keys():
                        if (label := int(key[:5])) in found:
                            found[label][key[6:]] = file.get_tensor(key)
        return found

    facts = io.read_json(checkpoint / _STATE)
    shared = safetensors.torch.load_file(checkpoint / _SHARED)
    return State(int(facts["step"]), facts, (), tensors, shared, str(checkpoint))


def whole(folder: Path) -> list[Path]:
    """All checkpoints that were written to the end, ascending by step."""
    named = (path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))
    return sorted(named, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _damage_of(checkpoint: Path) -> str | None:
    """What is not as `save` wrote it, None where all of it is."""
    try:
        files = _files(checkpoint)
        for name, checksum in files.items():
            if io.file_hash(checkpoint / name) != checksum:
                return f"{name} is not as it was written"
        step = io.read_json(checkpoint / _STATE)["step"]
        return None if step == _step(checkpoint) else f"{_STATE} is of step {step}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name}: {error.strerror or error}"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{_CHECKSUMS} is not as it was written"


def _files(checkpoint: Path) -> dict[str, str]:
    """Checksums of the files of a checkpoint, by their names; raises what `_damage_of` catches."""
    content = io.read_json(checkpoint / _CHECKSUMS)
    files: dict[str, str] = content["files"]
    if content["list"] != io.fingerprint(files):
        raise ValueError(f"{_CHECKSUMS} is not as it was written")
    return files


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
