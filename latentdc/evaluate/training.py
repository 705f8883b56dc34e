"""Train one student on one set of labelled images."""

import copy
import math

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from latentdc.batches import joins
from latentdc.data.mapped import Images
from latentdc.draws import global_draws
from latentdc.errors import RunError
from latentdc.evaluate.lesson import Lesson, SoftLabels
from latentdc.evaluate.pace import Pace
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.schedule import ema_decay, share_of_peak
from latentdc.images import Preprocessing
from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.objectives.augment import augment


def train_student(
    images: Images,
    labels: Tensor,
    *,
    network: str,
    num_classes: int,
    protocol: EvalProtocol,
    seed: int,
    normalization: Preprocessing,
    accelerator: Accelerator,
    soft: SoftLabels | None = None,
) -> Network:
    """Train a new student to the end of the protocol's budget; no score selects anything.

    Args:
        images: (N, 3, H, W) uint8, or floats in [-1, 1]; or (N, D) vectors.
        labels: (N,) int64.
        network: name of the student.
        num_classes: size of its logits.
        protocol: with its budget in steps (see `EvalProtocol.resolve`).
        seed: initial weights, batch order, views, augmentation and dropout follow from it.
        normalization: from images to the student's input.
        accelerator: its device and precision are used; the training is this process's own.
        soft: the teachers' logits; needed unless the protocol's labels are hard.

    Returns:
        The weights of the last step, or their average, on the accelerator's device, in eval mode.

    Raises:
        InputError: a network that cannot learn from batches of one image.
        RunError: loss or weights ended as NaN or infinity.
    """
    assert protocol.steps is not None, "resolve() turns epochs into steps"
    device, every = accelerator.device, protocol.update_every
    student = new_network(
        network, "student", num_classes=num_classes, resolution=images.shape[-1], seed=seed
    ).to(device)
    average = copy.deepcopy(student) if protocol.ema is not None else student
    optimizer = new_optimizer(student, network, protocol)
    scaler = torch.amp.GradScaler(device.type, enabled=accelerator.mixed_precision == "fp16")
    peak, updates = protocol.lr_for(network), math.ceil(protocol.steps / every)
    join = joins(
        network,
        num_classes=num_classes,
        resolution=images.shape[-1],
        count=len(labels),
        batch=protocol.batch,
    )
    pace = Pace(len(labels), protocol, seed, join=join)
    lesson = Lesson(images, labels, protocol=protocol, seed=seed, device=device, soft=soft)
    loss = torch.zeros(())
    with global_draws(seed, "dropout"):
        for step in pace.steps(lesson):
            for group in optimizer.param_groups:
                group["lr"] = peak * share_of_peak(protocol, step.number // every, updates)
            shown = lesson.show(step.rows)
            inputs = augment(normalization(shown), step.draw)
            with accelerator.autocast():
                logits = student(inputs)
            loss = pace.loss(step, lesson, logits.float(), shown)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if protocol.ema is not None:
                _average(average, student, protocol, step.number)
    state = [t for t in average.state_dict().values() if t.is_floating_point()]
    if not math.isfinite(loss.item()) or not all(bool(t.isfinite().all()) for t in state):
        raise RunError(
            f"the training of {network} with seed {seed} ended with a loss of {loss.item()}"
            f"{' and weights that are not finite' if math.isfinite(loss.item()) else ''}; "
            f"a smaller lr than {peak} in the protocol may help."
        )
    return average.eval()


def new_optimizer(student: nn.Module, network: str, protocol: EvalProtocol) -> Optimizer:
    """SGD or AdamW over all parameters, with weight decay on those that the protocol decays."""
    lr, decay = protocol.lr_for(network), protocol.weight_decay
    groups: list[dict[str, object]] = [{"params": list(student.parameters())}]
    if protocol.decay == "matrices":
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in student.named_parameters():
            (matrices if "weight" in name and parameter.ndim > 1 else others).append(parameter)
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    if protocol.optimizer == "adamw":
        return AdamW(groups, lr=lr, weight_decay=decay, fused=True)
    return SGD(
        groups,
        lr=lr,
        momentum=protocol.momentum,
        nesterov=protocol.nesterov,
        weight_decay=decay,
        fused=True,
    )


@torch.no_grad()
def _average(average: nn.Module, student: nn.Module, protocol: EvalProtocol, step: int) -> None:
    """Move the averaged weights towards the student's; batch statistics are copied."""
    assert protocol.ema is not None
    decay = protocol.ema
    if protocol.ema_every == "update":
        if (step + 1) % protocol.update_every:
            return
        decay = ema_decay(step // protocol.update_every, protocol.ema)
    torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)
    for kept, latest in zip(average.buffers(), student.buffers(), strict=True):
        kept.copy_(latest)
