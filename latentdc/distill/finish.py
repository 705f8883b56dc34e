"""The synthetic set at the end of a distillation, and pictures on the way.

Made class by class: every process decodes a few of its own, the levels are exchanged, and so on, so
that no process holds the set in floats. A set above `MEMORY_LIMIT` goes into a file of the run
folder that all processes map. Latents are gathered for the main process alone, which writes them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import launch
from latentdc.data.cache import MEMORY_LIMIT
from latentdc.distill.ended import ended_images
from latentdc.distill.latents import Latents, Parts
from latentdc.distill.loop import gather_rows
from latentdc.images import to_uint8
from latentdc.priors.base import Prior
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.vector import VectorPrior, sample_shape
from latentdc.report import save_grid
from latentdc.synthetic.synthetic_set import SyntheticSet

AT_ONCE = 16  # images of a process that are decoded together, but at least one class
SHOWN = (20, 10)  # classes of a picture, and images of each
FILE = "decoded.bin"  # in the run folder until all processes have mapped it


def finished(
    latents: Latents,
    prior: Prior,
    class_names: tuple[str, ...],
    provenance: Mapping[str, object],
    accelerator: Accelerator,
    folder: Path | None = None,
    over: bool = False,
) -> SyntheticSet:
    """The set of all processes' latents.

    Args:
        latents: of the classes that this process owns.
        prior: decodes them.
        class_names: of all classes.
        provenance: noted in the set.
        accelerator: names the other processes.
        folder: of the run, all processes' alike, for a set that is too large for memory.
        over: whether the run had ended before: the images of the set in its folder are taken then,
            if it has the same latents.

    Returns:
        Images and labels everywhere; z, c and noise on the main process.
    """
    classes = len(class_names)

    def on_main(part: Callable[[Latents], Parts | None]) -> Tensor | None:
        own = part(latents)
        if own is None:
            return None
        rows = torch.empty((classes, *own[0].shape)) if accelerator.is_main_process else None
        empty = own[0].new_empty((0, *own[0].shape))
        gather_classes(
            latents, lambda some: torch.stack(part(some) or ()), rows, empty, accelerator
        )
        return None if rows is None else rows.flatten(0, 1)

    parts = {
        "z": on_main(lambda some: some.z),
        "c": on_main(lambda some: some.c),
        "noise": on_main(lambda some: some.noise),
    }
    labels = torch.arange(classes).repeat_interleave(latents.ipc)
    images = None
    if folder is not None and over:
        images = _ended(folder, parts, labels, provenance, accelerator)
    if images is None:
        images = _images(latents, prior, classes, accelerator, folder)
    return SyntheticSet(
        images=images,
        labels=labels,
        class_names=class_names,
        z=parts["z"],
        c=parts["c"],
        noise=parts["noise"],
        grid=1 if images.ndim == 4 else None,  # of vectors there is none
        provenance=dict(provenance),
    )


def picture(
    path: Path,
    latents: Latents,
    prior: Prior,
    class_names: tuple[str, ...],
    accelerator: Accelerator,
) -> None:
    """Show the first images of the first classes, whoever owns them; nothing else is decoded."""
    classes, each = min(SHOWN[0], len(class_names)), min(SHOWN[1], latents.ipc)

    def first(parts: Parts | None) -> Parts | None:
        return None if parts is None else tuple(part[:each] for part in parts)

    own = latents.pick(range(classes))
    shown = Latents(own.classes, each, first(own.z) or (), first(own.c), first(own.noise))
    images = _images(shown, prior, classes, accelerator, None)
    if accelerator.is_main_process:
        path.parent.mkdir(exist_ok=True)
        save_grid(path, images, torch.arange(classes).repeat_interleave(each), class_names)


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


def _ended(
    folder: Path,
    parts: Mapping[str, Tensor | None],
    labels: Tensor,
    provenance: Mapping[str, object],
    accelerator: Accelerator,
) -> Tensor | None:
    """What `ended_images` finds on the main process, on all of them."""
    found = None
    if accelerator.is_main_process:
        found = ended_images(folder, parts, labels, provenance)
    form = launch.agree(accelerator, None if found is None else (found.shape, found.dtype))
    if form is None or accelerator.num_processes == 1:
        return found
    assert isinstance(form, tuple)

    def fill(target: Tensor | None) -> None:
        if target is not None and found is not None:
            target.copy_(found)

    return _through_file(folder / FILE, form[0], form[1], accelerator, fill)


@torch.no_grad()
def _images(
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
    return _through_file(
        folder / FILE,
        shape,
        dtype,
        accelerator,
        lambda target: gather_classes(latents, make, target, empty, accelerator),
    ).flatten(0, 1)


def _through_file(
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
