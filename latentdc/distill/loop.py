"""The distillation loop: decode, compare with real images, move z and c.

Moser et al., LD3M, Alg. 1 (https://arxiv.org/abs/2403.03881). A step runs the prior once: the
objective's gradient is taken at the decoded images and sent back through the graph that decoded
them.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.distill.latents import Latents
from latentdc.distill.real import RealBatches
from latentdc.distill.trimming import Trimming
from latentdc.errors import InputError
from latentdc.objectives.base import Objective
from latentdc.priors.base import Prior


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


def make_optimizer(
    latents: Latents, *, lr_z: float, lr_c: float, momentum: float
) -> torch.optim.SGD:
    """SGD over z and c with learning rates of their own; a rate of 0 leaves its tensors alone.

    A class that a step does not decode gets no gradient, so that neither it nor its momentum moves:
    each class is optimised as if the steps that meet it were all there are.
    """
    groups = []
    for parts, lr in ((latents.z, lr_z), (latents.c, lr_c)):
        if parts is not None:
            groups.append({"params": [part.requires_grad_(lr > 0) for part in parts], "lr": lr})
    return torch.optim.SGD(groups, lr=lr_z, momentum=momentum)


def check_moves(
    prior: Prior,
    *,
    lr_z: float,
    lr_c: float,
    learns: bool,
    steps: int,
    device: torch.device | str,
) -> None:
    """Refuse steps that would leave everything as it is.

    Args:
        prior: whose conditions, where it has any, move beside z.
        lr_z: learning rate of the latents.
        lr_c: of the class conditions.
        learns: whether the objective learns something itself, such as a learning rate.
        steps: that are left.
        device: of the prior.

    Raises:
        InputError: nothing has a rate to move at.
    """
    if steps == 0 or lr_z > 0 or learns:
        return
    conditional = prior.condition(torch.zeros(1, dtype=torch.int64, device=device)) is not None
    if conditional and lr_c > 0:
        return
    why = "" if conditional else "; this prior has no conditions that distill.lr_c could move"
    raise InputError(
        f"distill.lr_z=0 and distill.lr_c={lr_c:g}: nothing would move in {steps} steps{why}. Give "
        "distill.lr_z a rate, or take distill.steps=0 for the images as they start."
    )


def check_precision(accelerator: Accelerator) -> None:
    """Refuse to distil in a precision whose gradients would need scaling.

    Raises:
        InputError: neither float32 nor bf16.
    """
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise InputError(
            f"Accelerate runs in {accelerator.mixed_precision}, in which the small gradients that "
            "pass through a prior vanish; launch with --mixed_precision bf16 or no."
        )


def distill(
    latents: Latents,
    prior: Prior,
    objective: Objective,
    real: RealBatches,
    optimizer: torch.optim.Optimizer,
    *,
    start: int,
    steps: int,
    accelerator: Accelerator,
    classes: Callable[[int], Collection[int]] | None = None,
    trimming: Trimming | None = None,
) -> Iterator[Step]:
    """Update `latents` in place; logging and saving are the caller's.

    Args:
        latents: of the classes that this process owns.
        prior: decodes them.
        objective: compares them with real images.
        real: of the classes that the objective will ask for.
        optimizer: over the latents.
        start: index of the first step.
        steps: index after the last one.
        accelerator: gives device, precision and the other processes.
        classes: which a step moves, whoever owns them; None moves all in every step.
        trimming: of the batches of `real`; None leaves them whole.
    """
    for index in range(start, steps):
        moved = latents if classes is None else latents.pick(classes(index))
        if not moved.classes:
            nothing = torch.zeros((), device=accelerator.device)
            yield Step(index, nothing, None if trimming is None else nothing)
            continue
        if objective.scope == "class":
            real.expect(index, moved.classes)
        optimizer.zero_grad(set_to_none=True)
        with accelerator.autocast():
            decoded = moved.decode(prior)
        gradient, loss = image_gradient(
            objective, index, decoded, moved.labels, real, accelerator, trimming
        )
        if decoded.requires_grad:
            decoded.backward(gradient.to(decoded.dtype))
        optimizer.step()
        yield Step(index, loss, None if trimming is None else trimming.left_out.to(loss.device))


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
        trimming.look(step, images, labels)
    images = images.requires_grad_()
    with accelerator.autocast():
        loss = objective.accumulate(step, images, labels, real)
    assert images.grad is not None
    return images.grad[first : first + len(decoded)], loss


def gather_rows(rows: Tensor, accelerator: Accelerator) -> tuple[Tensor, int]:
    """All processes' rows in the order of processes, whose counts may differ, without graphs.

    Args:
        rows: (N, ...) of this process.
        accelerator: names the others.

    Returns:
        (sum of N, ...) and the index of this process's first row.
    """
    rows = rows.detach()
    if accelerator.num_processes == 1:
        return rows, 0
    count = torch.tensor([len(rows)], device=rows.device)
    counts = accelerator.gather(count).tolist()
    padded = accelerator.gather(accelerator.pad_across_processes(rows))
    kept = torch.cat([torch.arange(n) + max(counts) * i for i, n in enumerate(counts)])
    return padded[kept.to(rows.device)], sum(counts[: accelerator.process_index])
