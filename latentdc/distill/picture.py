"""Pictures of the synthetic images on the way."""

from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.distill.decoding import decoded
from latentdc.distill.latents import Latents, Parts
from latentdc.priors.base import Prior
from latentdc.report import save_grid

SHOWN = (20, 10)  # classes of a picture, and images of each


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
    images = decoded(shown, prior, classes, accelerator, None)
    if accelerator.is_main_process:
        path.parent.mkdir(exist_ok=True)
        save_grid(path, images, torch.arange(classes).repeat_interleave(each), class_names)
