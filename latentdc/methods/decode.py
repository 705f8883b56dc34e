"""The synthetic set of all processes' latents, decoded class by class.

Every process decodes a few classes of its own, the levels are exchanged, and so on, so that no
process holds the set in floats. Latents are gathered for the main process alone, which writes them.
How many images the prior takes at once is settled here for all methods.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, fields, replace
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from latentdc import ranks, runtime
from latentdc.images import MEMORY_LIMIT, to_uint8
from latentdc.methods.context import Context, State
from latentdc.methods.latents import Latents, PerClass
from latentdc.priors.base import Prior
from latentdc.priors.memory import Plan, Planned, choose_plan, describe_plan, free_bytes
from latentdc.priors.pixel import PixelPrior, VectorPrior, sample_shape
from latentdc.synthetic.synthetic_set import SyntheticSet

P = TypeVar("P", bound=Prior)
RENDERED = 16  # images of a process that are decoded together, but at least one class
BLOCK = 64 * 2**20  # bytes that a process exchanges at once, but at least what is decoded together
SHOWN = (20, 10)  # classes of a picture, and images of each


def synthetic_set(
    latents: Latents,
    prior: Prior,
    class_names: tuple[str, ...],
    context: Context,
) -> SyntheticSet:
    """The set of all processes' latents.

    Returns:
        Images and labels everywhere; z, c and noise on the main process.
    """
    classes, accelerator = len(class_names), context.accelerator

    def on_main(part: Callable[[Latents], PerClass | None]) -> Tensor | None:
        own = part(latents)
        if own is None:
            return None
        rows = torch.empty((classes, *own[0].shape)) if accelerator.is_main_process else None
        empty = own[0].new_empty((0, *own[0].shape))
        gather_classes(
            latents, lambda some: torch.stack(part(some) or ()), rows, empty, accelerator
        )
        return None if rows is None else rows.flatten(0, 1)

    images = decode_latents(latents, prior, classes, context)
    return SyntheticSet(
        images=images,
        labels=torch.arange(classes).repeat_interleave(latents.ipc),
        class_names=class_names,
        z=on_main(lambda some: some.z),
        c=on_main(lambda some: some.c),
        noise=on_main(lambda some: some.noise),
        grid=1 if images.ndim == 4 else None,  # of vectors there is none
    )


def settle_memory(
    prior: P,
    images: int,
    saved: State | None,
    accelerator: Accelerator,
    *,
    ipc: int | None = None,
    one_step: bool = False,
) -> tuple[P, dict[str, object]]:
    """A prior with a plan, where its memory is `auto`, the same on all processes.

    A run that is continued by as many processes keeps the plan that it began with, so that it
    rounds as before. The main process measures, and tells.

    Args:
        prior: to be settled; it stays as it is.
        images: that a process decodes together, at most.
        saved: state to go on from.
        accelerator: of this process.
        ipc: images of a class, where classes can be matched one after the other; None where not.
        one_step: whether backward goes through one step at a time, as guides do.

    Returns:
        The prior, and the fields of the plan, facts for the next states; nothing for pixels.
    """
    if not isinstance(prior, Planned):
        return prior, {}
    plan = prior.plan
    facts = {} if saved is None else saved.facts
    if plan is None and facts.get("processes") == accelerator.num_processes:
        known = {field.name: facts[field.name] for field in fields(Plan) if field.name in facts}
        plan = Plan(**known) if "memory" in known else None
    if plan is None:
        measured = None
        if accelerator.is_main_process:
            needs, free = prior.needs(), free_bytes(prior.device)
            needs = needs.of_one_step() if one_step else needs
            measured = choose_plan(needs, images, free, ipc=ipc)
            ranks.say("memory", describe_plan(measured, needs, images, free))
        plan = runtime.broadcast(measured)
    settled = copy(prior)
    settled.plan = plan
    return settled, asdict(plan)


def show_latents(
    step: int,
    latents: Latents,
    prior: Prior,
    class_names: tuple[str, ...],
    context: Context,
) -> None:
    """Show the first images of the first classes, whoever owns them; nothing else is decoded."""
    if context.show is None:
        return
    classes, each = min(SHOWN[0], len(class_names)), min(SHOWN[1], latents.ipc)

    def first(parts: PerClass | None) -> PerClass | None:
        return None if parts is None else tuple(part[:each] for part in parts)

    own = latents.pick(range(classes))
    shown = Latents(own.classes, each, first(own.z) or (), first(own.c), first(own.noise))
    images = decode_latents(shown, prior, classes, replace(context, large=None))
    if context.accelerator.is_main_process:
        context.show(step, images, torch.arange(classes).repeat_interleave(each), class_names)


@torch.no_grad()
def decode_latents(latents: Latents, prior: Prior, classes: int, context: Context) -> Tensor:
    """(classes * ipc, *sample) everywhere: uint8, or float32 where that does not hold them."""
    accelerator = context.accelerator
    whole = _fit_levels(latents.z, prior, accelerator)
    dtype = torch.uint8 if whole else torch.float32
    shape = torch.Size((classes, latents.ipc, *sample_shape(prior)))

    def decode(some: Latents) -> Tensor:
        with accelerator.autocast():
            images = some.decode(prior)
        levels = to_uint8(images.float()) if whole else images.float()
        return levels.view(-1, *shape[1:])

    def fill(target: Tensor | None) -> None:
        empty = torch.empty((0, *shape[1:]), dtype=dtype, device=accelerator.device)
        gather_classes(latents, decode, target, empty, accelerator)

    if context.large is not None and shape.numel() * dtype.itemsize > MEMORY_LIMIT:
        return context.large(shape, dtype, fill).flatten(0, 1)
    images = torch.empty(shape, dtype=dtype)
    fill(images)
    return images.flatten(0, 1)


def gather_classes(
    latents: Latents,
    make: Callable[[Latents], Tensor],
    target: Tensor | None,
    empty: Tensor,
    accelerator: Accelerator,
) -> None:
    """Fill `target` with what `make` gives for every process's classes, some classes at a time.

    They are exchanged in blocks of many classes, because each exchange waits for all processes.

    Args:
        latents: of the classes that this process owns.
        make: latents of n classes -> (n, ipc, ...).
        target: (classes, ipc, ...) on the CPU, by label; None where it is not wanted.
        empty: (0, ipc, ...), what a process without classes gives.
        accelerator: of this process.
    """
    step = max(1, RENDERED // latents.ipc)
    size = empty.shape[1:].numel() * empty.element_size()  # bytes of a class
    block = max(1, BLOCK // (step * size)) * step
    owned: list[tuple[int, ...]] = gather_object([tuple(latents.classes)])
    for start in range(0, max(map(len, owned)), block):
        labels = [classes[start : start + block] for classes in owned]
        mine, longest = labels[accelerator.process_index], max(map(len, labels))
        parts = [make(latents.pick(mine[i : i + step])) for i in range(0, len(mine), step)]
        rows = torch.cat(parts or [empty]).detach()
        if accelerator.num_processes > 1:
            room = rows.new_zeros((longest, *rows.shape[1:]))
            room[: len(rows)] = rows
            padded = accelerator.gather(room).split(longest)
            rows = torch.cat([part[: len(n)] for part, n in zip(padded, labels, strict=True)])
        if target is not None:
            target[torch.tensor([label for some in labels for label in some])] = rows.cpu()


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
