"""Train one student on one set of labelled images."""

import copy
import math
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer

from latentdc.device import fetch, place, send
from latentdc.draws import generator, global_draws
from latentdc.errors import RunError
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.schedule import SCHEDULES, ema_decay
from latentdc.images import Normalization
from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.objectives.augment import Draw, augment, draw_augmentation


def train_student(
    images: Tensor,
    labels: Tensor,
    *,
    network: str,
    num_classes: int,
    protocol: EvalProtocol,
    seed: int,
    normalization: Normalization,
    accelerator: Accelerator,
) -> Network:
    """Train a new student to the end of the protocol's budget; no score selects anything.

    Args:
        images: (N, 3, H, W) uint8, or floats in [-1, 1].
        labels: (N,) int64.
        network: name of the student.
        num_classes: size of its logits.
        protocol: with its budget in steps (see `EvalProtocol.resolve`).
        seed: initial weights, batch order, augmentation and dropout follow from it.
        normalization: from images to the student's input.
        accelerator: its device and precision are used; the training is this process's own.

    Returns:
        The weights of the last step, or their average, on the accelerator's device, in eval mode.

    Raises:
        RunError: the loss ended as NaN or infinity.
    """
    assert protocol.steps is not None, "resolve() turns epochs into steps"
    device, every = accelerator.device, protocol.update_every
    student = new_network(
        network, "student", num_classes=num_classes, resolution=images.shape[-1], seed=seed
    ).to(device)
    average = copy.deepcopy(student) if protocol.ema is not None else student
    optimizer = _optimizer(student, network, protocol)
    scaler = torch.amp.GradScaler(device.type, enabled=accelerator.mixed_precision == "fp16")
    schedule, peak = SCHEDULES[protocol.schedule], protocol.lr_for(network)
    images, labels = place(images, device), labels.to(device)
    loss = torch.zeros(())
    with global_draws(seed, "dropout"):
        for step, (rows, draw) in enumerate(_batches(len(labels), protocol, seed)):
            for group in optimizer.param_groups:
                group["lr"] = peak * schedule(step // every, math.ceil(protocol.steps / every))
            batch = augment(normalization(fetch(images, rows, device)), draw)
            with accelerator.autocast():
                logits = student(batch)
            loss = F.cross_entropy(logits.float(), labels[send(rows, device)])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if protocol.ema is not None and (step + 1) % every == 0:
                _update(average, student, ema_decay(step // every, protocol.ema))
    if not math.isfinite(loss.item()):
        raise RunError(
            f"the training of {network} with seed {seed} ended with a loss of {loss.item()}; "
            f"a smaller lr than {peak} in the protocol may help."
        )
    return average.eval()


def _batches(count: int, protocol: EvalProtocol, seed: int) -> Iterator[tuple[Tensor, Draw | None]]:
    """Rows (B,) of each step's images and its augmentation, drawn by (seed, epoch)."""
    assert protocol.steps is not None
    per_epoch = math.ceil(count / protocol.batch)
    for epoch in range(math.ceil(protocol.steps / per_epoch)):
        source = generator(seed, "epoch", epoch)
        order = torch.randperm(count, generator=source)
        left = protocol.steps - epoch * per_epoch
        for rows in order.split(protocol.batch)[:left]:
            yield rows, draw_augmentation(protocol.augment, source, samples=len(rows))


def _optimizer(student: nn.Module, network: str, protocol: EvalProtocol) -> Optimizer:
    lr, decay = protocol.lr_for(network), protocol.weight_decay
    if protocol.optimizer == "adamw":
        return AdamW(student.parameters(), lr=lr, weight_decay=decay, fused=True)
    return SGD(
        student.parameters(), lr=lr, momentum=protocol.momentum, weight_decay=decay, fused=True
    )


@torch.no_grad()
def _update(average: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the student's; batch statistics are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)
    for kept, latest in zip(average.buffers(), student.buffers(), strict=True):
        kept.copy_(latest)
