"""The loop of matching: decode, compare with real images, send the gradient back, move.

A step runs the prior once: the objective's gradient is taken at the decoded images and sent back
through the graph that decoded them.
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
        loss = latent_gradient(work, index, moved, trimming)
        work.optimizer.step()
        yield Step(index, loss, None if trimming is None else trimming.left_out.to(loss.device))


def latent_gradient(work: Work, index: int, moved: Latents, trimming: Trimming | None) -> Tensor:
    """Give the latents of `moved` their gradient in a step; the loss, ()."""
    judges_images = getattr(work.objective, "space", None) is None
    if work.objective.scope == "class" and judges_images:
        work.real.expect(index, moved.classes)
    work.optimizer.zero_grad(set_to_none=True)
    with work.accelerator.autocast():
        decoded = moved.decode(work.prior) if judges_images else torch.cat(moved.z)
    gradient, loss = image_gradient(
        work.objective, index, decoded, moved.labels, work.real, work.accelerator, trimming
    )
    if decoded.requires_grad:
        decoded.backward(gradient.to(decoded.dtype))
    return loss


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
