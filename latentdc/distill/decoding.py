"""The images of all processes' latents, made class by class.

Every process decodes a few classes of its own, the levels are exchanged, and so on, so that no
process holds the set in floats. A set above `MEMORY_LIMIT` goes into a file of the run folder that
all processes map.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.cache import MEMORY_LIMIT
from latentdc.distill.latents import Latents
from latentdc.distill.loop import gather_rows
from latentdc.images import to_uint8
from latentdc.io import reserve
from latentdc.priors.base import Prior
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.vector import VectorPrior, sample_shape

AT_ONCE = 16  # images of a process that are decoded together, but at least one class
FILE = "decoded.bin"  # in the run folder until all processes have mapped it


@torch.no_grad()
def decoded(
    latents: Latents, prior: Prior, classes: int, accelerator: Accelerator, folder: Path | None
) -> Tensor:
    """(classes * ipc, *sample) everywhere: uint8, or float32 where that does not hold them."""
    whole = _fit_levels(latents.z, prior, accelerator)
    dtype = torch.uint8 if whole else torch.float32
    shape = torch.Size((classes, latents.ipc, *sample_shape(prior)))

    def make(some: Latents) -> Tensor:
        with accelerator.autocast():
            images = some.decode(prior)
        levels = to_uint8(images.float()) if whole else images.float()
        return levels.view(-1, *shape[1:])

    empty = torch.empty((0, *shape[1:]), dtype=dtype, device=accelerator.device)
    if folder is None or shape.numel() * dtype.itemsize <= MEMORY_LIMIT:
        images = torch.empty(shape, dtype=dtype)
        gather_classes(latents, make, images, empty, accelerator)
        return images.flatten(0, 1)
    return through_file(
        folder / FILE,
        shape,
        dtype,
        accelerator,
        lambda target: gather_classes(latents, make, target, empty, accelerator),
    ).flatten(0, 1)


def gather_classes(
    latents: Latents,
    make: Callable[[Latents], Tensor],
    target: Tensor | None,
    empty: Tensor,
    accelerator: Accelerator,
) -> None:
    """Fill `target` with what `make` gives for every process's classes, some classes at a time.

    Args:
        latents: of the classes that this process owns.
        make: latents of n classes -> (n, ipc, ...).
        target: (classes, ipc, ...) on the CPU, by label; None where it is not wanted.
        empty: (0, ipc, ...), what a process without classes gives.
        accelerator: names the other processes.
    """
    device, step = empty.device, max(1, AT_ONCE // latents.ipc)
    most = accelerator.gather(torch.tensor([len(latents.classes)], device=device)).max()
    for start in range(0, int(most), step):
        some = latents.pick(latents.classes[start : start + step])
        labels = torch.tensor(some.classes, dtype=torch.int64, device=device)
        labels, _ = gather_rows(labels, accelerator)
        rows, _ = gather_rows(make(some) if some.classes else empty, accelerator)
        if target is not None:
            target[labels.cpu()] = rows.cpu()


def through_file(
    path: Path,
    shape: torch.Size,
    dtype: torch.dtype,
    accelerator: Accelerator,
    fill: Callable[[Tensor | None], None],
) -> Tensor:
    """A tensor that the main process fills in a file, mapped by all; the file's name is gone."""

    def mapped(*, write: bool) -> Tensor:
        flat = torch.from_file(str(path), shared=write, size=shape.numel(), dtype=dtype)
        return flat.view(shape)

    if accelerator.is_main_process:
        with path.open("w+b") as file:
            file.truncate(shape.numel() * dtype.itemsize)
            try:
                reserve(file)
            except OSError:
                path.unlink()
                raise
    fill(mapped(write=True) if accelerator.is_main_process else None)
    accelerator.wait_for_everyone()
    images = mapped(write=False)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        path.unlink()
    return images


def _fit_levels(z: Sequence[Tensor], prior: Prior, accelerator: Accelerator) -> bool:
    """Whether 8 bits hold the decoded images; only pixels without clamp may leave [-1, 1].

    Levels of whitened ones would be rounded by more in the space that students see.
    """
    if not isinstance(prior, PixelPrior) or prior.clamp:
        return not isinstance(prior, VectorPrior)
    if prior.whitening is not None:
        return False
    largest = max((float(part.detach().abs().max()) for part in z), default=0.0)
    beyond = torch.tensor(float(largest > 1 + 1e-3), device=accelerator.device)
    return bool(accelerator.reduce(beyond, "sum") == 0)
