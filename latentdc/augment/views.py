"""Views: what students see of the images of a set in one epoch, by draws of each image's own.

The draws of all images are made at once from (seed, epoch), so that a view follows from seed, epoch
and image alone, whatever the batch size and order. Soft labels that were stored once so fit the
views of any later training that replays their seed.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from latentdc.augment import color, geometry, mixing
from latentdc.augment.dsa import cutout
from latentdc.draws import generator
from latentdc.images import Images, fetch, send
from latentdc.recipe.labels import Views

Draws = dict[str, Tensor]  # by name of the step, one row per image of the set, on the CPU


def draw_views(views: Views, *, count: int, size: int, seed: int, epoch: int) -> Draws:
    """What happens to each of `count` images of `size` pixels in one epoch."""

    def source(step: str) -> Generator:
        return generator(seed, "views", step, epoch)

    draws: Draws = {}
    if views.randaugment is not None:
        draws["randaugment"] = color.draw_operations(
            count, *views.randaugment, source("randaugment")
        )
    if views.shuffle is not None:
        uniforms = torch.rand(count, 2, views.shuffle, generator=source("shuffle"))
        draws["shuffle"] = uniforms.argsort(dim=2)
    if views.pad is not None:
        offsets = torch.randint(2 * views.pad + 1, (count, 2), generator=source("pad"))
        draws["pad" if views.pad_mode == "black" else "reflect"] = offsets - views.pad
    if views.crop is not None:
        draws["crop"] = geometry.draw_boxes(count, size, views.crop, views.cells, source("crop"))
    if views.flip:
        draws["flip"] = torch.rand(count, generator=source("flip")) < 0.5
    if views.jitter:
        draws["jitter"] = color.draw_jitter(count, views.jitter, source("jitter"))
    if views.lighting:
        normal = torch.randn(count, 3, generator=source("lighting"))
        draws["lighting"] = normal * views.lighting
    if views.cutout:
        draws["cutout"] = torch.rand(count, 3, generator=source("cutout"))
    if views.mix is not None:
        draws["partner"] = torch.randperm(count, generator=source("partner"))  # each image once
        draws["kept"] = mixing.draw_shares(count, views.mix_alpha, seed, epoch)
    if views.mix == "cutmix":
        draws["cutmix"], draws["kept"] = mixing.draw_cuts(draws["kept"], size, source("cutmix"))
    return draws


STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # in the order in which they are applied
    "randaugment": color.randaugment,
    "shuffle": geometry.shuffle_strips,
    "pad": geometry.shift,
    "reflect": partial(geometry.shift, reflect=True),
    "crop": geometry.crop_resize,
    "flip": geometry.mirror,
    "jitter": color.jitter,
    "lighting": color.lighting,
    "cutout": cutout,
}


def view(images: Images, rows: Tensor, draws: Draws, device: torch.device) -> Tensor:
    """The views (B, 3, H, W) in [-1, 1] of the images at `rows` (B,), on the device.

    Of the images (N, 3, H, W) of the whole set, placed, by its draws for one epoch.
    """
    own = _alone(images, rows, draws, device)
    if "partner" not in draws:
        return own
    partners = _alone(images, draws["partner"][rows], draws, device)
    if "cutmix" in draws:
        return mixing.cutmix(own, partners, send(draws["cutmix"][rows], device))
    return mixing.mixup(own, partners, send(draws["kept"][rows], device))


def _alone(images: Images, rows: Tensor, draws: Draws, device: torch.device) -> Tensor:
    """Views before they are mixed."""
    seen = fetch(images, rows, device)
    for step, function in STEPS.items():
        if step in draws:
            parameters = draws[step][rows]
            on_cpu = step == "randaugment"  # which groups images by it
            seen = function(seen, parameters if on_cpu else send(parameters, device))
    return seen
