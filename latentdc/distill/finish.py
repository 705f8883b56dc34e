"""The synthetic set at the end of a distillation.

Its latents are gathered for the main process alone, which writes them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import runtime
from latentdc.distill.decoding import FILE, decoded, gather_classes, through_file
from latentdc.distill.ended import ended_images
from latentdc.distill.latents import Latents, Parts
from latentdc.priors.base import Prior
from latentdc.synthetic.synthetic_set import SyntheticSet


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
        images = decoded(latents, prior, classes, accelerator, folder)
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
    form = runtime.broadcast(accelerator, None if found is None else (found.shape, found.dtype))
    if form is None or accelerator.num_processes == 1:
        return found
    assert isinstance(form, tuple)

    def fill(target: Tensor | None) -> None:
        if target is not None and found is not None:
            target.copy_(found)

    return through_file(folder / FILE, form[0], form[1], accelerator, fill)
