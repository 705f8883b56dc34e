"""The loop of matching: decode, compare with real images, send the gradient back, move.

A step runs the prior once: the objective's gradient is taken at the decoded images and sent back
through the graph that decoded them. Where classes do not act on each other and memory is short,
this is done for some of them at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.methods.latents import Latents
from latentdc.methods.real import RealBatches, Trimming
from latentdc.objectives.base import Objective
from latentdc.priors.base import Prior
from latentdc.runtime import gather_rows


@dataclass(frozen=True, eq=False)
class Work:
    """What a process optimises, and what with.

    Attributes:
        latents: of the classes that this process owns.
        prior: decodes them.
        objective: compares them with real images.
        real: of the classes that the objective will ask for.
        optimizer: over the latents.
        accelerator: gives device, precision and the other processes.
        moved: step -> ascending labels of the classes that it moves, whoever owns them.
        trimming: of the batches of `real`; None leaves them whole.
    """

    latents: Latents
    prior: Prior
    objective: Objective
    real: RealBatches
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    moved: Callable[[int], tuple[int, ...]]
    trimming: Trimming | None = None


@dataclass(frozen=True)
class Step:
    """One finished update.

    Attributes:
        index: of the step, from 0.
        loss: () detached, of the classes this process moved (of all, where scope is `set`).
        trimmed: () share of their real batches that was left out, likewise summed over the classes;
            None where none is.
    """

    index: int
    loss: Tensor
    trimmed: Tensor | None = None


def match_steps(work: Work, start: int, steps: int) -> Iterator[Step]:
    """Update the latents in place from step `start` until `steps` are done.

    Logging and saving are the caller's.
    """
    accelerator, trimming = work.accelerator, work.trimming
    for index in range(start, steps):
        moved = work.latents.pick(work.moved(index))
        if not moved.classes:
            nothing = torch.zeros((), device=accelerator.device)
            yield Step(index, nothing, None if trimming is None else nothing)
            continue
        loss = latent_gradient(work, index, moved)
        work.optimizer.step()
        yield Step(index, loss, None if trimming is None else trimming.left_out.to(loss.device))


def latent_gradient(work: Work, index: int, moved: Latents) -> Tensor:
    """Give the latents of `moved` their gradient in a step; the loss, ()."""
    objective, trimming = work.objective, work.trimming
    if sums_images_by_class(objective):
        work.real.expect(index, moved.classes)
    work.optimizer.zero_grad(set_to_none=True)
    losses, shares = [], []
    for some in _class_groups(work, moved):
        with work.accelerator.autocast():
            decoded = some.decode(work.prior) if _judges_images(objective) else torch.cat(some.z)
        gradient, loss = image_gradient(
            objective, index, decoded, some.labels, work.real, work.accelerator, trimming
        )
        if decoded.requires_grad:
            decoded.backward(gradient.to(decoded.dtype))
        losses.append(loss)
        if trimming is not None:
            shares.append(trimming.left_out)
    if trimming is not None:
        trimming.left_out = torch.stack(shares).sum()
    return torch.stack(losses).sum()


def _class_groups(work: Work, moved: Latents) -> Iterator[Latents]:
    """The latents of a step, as many classes at a time as the prior's plan has room for."""
    plan = getattr(work.prior, "plan", None)
    if plan is None or plan.group is None or not sums_images_by_class(work.objective):
        yield moved
        return
    size = max(1, plan.group // moved.ipc)
    for start in range(0, len(moved.classes), size):
        yield moved.pick(moved.classes[start : start + size])


def sums_images_by_class(objective: Objective) -> bool:
    """Whether some classes can be decoded and compared, and then others."""
    return objective.scope == "class" and _judges_images(objective)


def _judges_images(objective: Objective) -> bool:
    """Whether latents are decoded for the objective."""
    return getattr(objective, "space", None) is None


def image_gradient(
    objective: Objective,
    step: int,
    decoded: Tensor,
    labels: Tensor,
    real: RealBatches,
    accelerator: Accelerator,
    trimming: Trimming | None = None,
) -> tuple[Tensor, Tensor]:
    """The objective's gradient at this process's images, (N, 3, H, W), and its loss, ().

    Where classes act on each other, all processes' images are gathered without their graphs, the
    objective runs identically everywhere, and each process keeps the gradient of its own images.
    """
    images, first = decoded.detach().float(), 0
    if objective.scope == "set" and accelerator.num_processes > 1:
        images, first = gather_rows(images, accelerator)
        labels = gather_rows(labels.to(images.device), accelerator)[0].cpu()
    if trimming is not None:
        trimming.update(step, images, labels)
    images = images.requires_grad_()
    with accelerator.autocast():
        loss = objective.accumulate(step, images, labels, real)
    assert images.grad is not None
    return images.grad[first : first + len(decoded)], loss
