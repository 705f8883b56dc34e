"""Train one student on one set of labelled images."""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from latentdc import training
from latentdc.augment.dsa import augment
from latentdc.augment.mixing import mix_targets
from latentdc.augment.views import Draws, draw_views, view
from latentdc.images import Preprocessing, place, send
from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.recipe.labels import Labels
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet

Reduction = Literal["mean", "none"]
WARMUP_START = 1e-7  # share of the peak learning rate at which `warmup-cosine` begins


class SoftLabels(Protocol):
    """The teachers' logits of the views that a training sees."""

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """Seed and epoch of the views that training `seed` shows in its `epoch`."""

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """(B, C) logits for the images at `rows` (B,), whose `views` are (B, 3, H, W)."""


class Step(NamedTuple):
    """What a student sees in one update.

    Attributes:
        number: of the last step of the budget that it stands for. These are consecutive, unless
            InfoBatch or a joined batch shortens epochs: their fewer steps are spread over as much
            of the schedule.
        batch: images, their DSA augmentation and weights.
        draws: views of all images in this epoch.
    """

    number: int
    batch: training.Batch
    draws: Draws

    def mixed(self, values: Tensor) -> Tensor:
        """(B,) values of the views, from (N,) of all images; mixed where the images are."""
        rows = self.batch.rows
        if "partner" not in self.draws:
            return values[rows]
        partners = values[self.draws["partner"][rows]]
        return torch.lerp(partners, values[rows], self.draws["kept"][rows])


def train_student(
    labelled: SyntheticSet,
    network: str,
    protocol: EvalProtocol,
    *,
    seed: int,
    normalization: Preprocessing,
    accelerator: Accelerator,
    soft: SoftLabels | None = None,
    on_step: training.OnStep | None = None,
    divided: str | None = None,
) -> Network:
    """Train a new student to the end of the protocol's budget; no score selects anything.

    Where a set weighs its images, the loss of image k counts N w_k / sum(w) times, so that the mean
    weight of the N images is 1: a batch of B has (1/B) sum_k N w_k / sum(w) loss_k, and the whole
    set sum_k w_k loss_k / sum(w). A mixed image weighs as its two images do, by their shares.

    Args:
        labelled: images (N, 3, H, W) uint8, or floats in [-1, 1], or vectors (N, D).
        network: name of the student.
        protocol: with its budget in steps (see `EvalProtocol.resolve`).
        seed: initial weights, batch order, views, augmentation and dropout follow from it.
        normalization: from images to the student's input.
        accelerator: its device and precision are used.
        soft: the teachers' logits; needed unless the protocol's labels are hard.
        on_step: see `Setting`.
        divided: what is trained, if by all processes, which call this together (see `Divided`);
            None for a training of this process alone.

    Returns:
        The weights of the last step, or their average, on the accelerator's device, in eval mode.

    Raises:
        InputError: a network that cannot learn from batches of one image.
        RunError: loss or weights ended as NaN or infinity.
    """
    assert protocol.steps is not None, "resolve() turns epochs into steps"
    assert soft is not None or protocol.labels.source == "hard"
    device, count, every = accelerator.device, len(labelled.labels), protocol.update_every
    weights = mean_one(labelled.weights)
    size = {"num_classes": len(labelled.class_names), "resolution": labelled.images.shape[-1]}
    student = new_network(network, "student", seed=seed, **size).to(device)
    optimizer = new_optimizer(student, network, protocol)
    average = None if protocol.ema is None else _new_average(student, protocol)
    join = training.joins(network, count=protocol.seen(count), batch=protocol.batch, **size)
    images, labels = place(labelled.images, device), labelled.labels.to(device)
    infobatch = None
    if protocol.infobatch is not None:
        epochs = math.ceil(protocol.steps / math.ceil(count / protocol.batch))
        infobatch = training.InfoBatch(count, epochs, rho=protocol.infobatch, seed=seed)
    peak, updates = protocol.lr_for(network), math.ceil(protocol.steps / every)
    batch = min(protocol.batch, protocol.seen(count))
    shares = training.Divided(student, accelerator, divided, batch)

    def loss(forward: training.Forward, step: Step) -> Tensor:
        return shares.mean(lambda own: mean_loss(forward, step._replace(batch=own)), step.batch)

    def mean_loss(forward: training.Forward, step: Step) -> Tensor:
        views = view(images, step.batch.rows, step.draws, device)
        logits = forward(augment(normalization(views), step.batch.draw))
        if infobatch is not None:
            own = labels[send(step.batch.rows, device)]
            return infobatch.loss(step.batch, logits, own, protocol.labels.smoothing)
        each = None if weights is None else send(step.mixed(weights), device)
        return label_loss(logits, labels, step, views, protocol.labels, soft, each)

    trained = training.fit(
        shares.network,
        training_steps(labelled, protocol, seed, join=join, sampler=infobatch, soft=soft),
        loss,
        optimizer,
        precision=training.Precision(accelerator),
        lr=lambda step: peak * share_of_peak(protocol, step.number // every, updates),
        dropout=(seed, *shares.keys("dropout")),
    )
    last = torch.zeros(())
    for step, last in trained:
        if on_step is not None:
            loss_now = float(last)  # waits for the device
            on_step({"student": network, "seed": seed, "step": step.number, "loss": loss_now})
        if average is not None and (protocol.ema_every == "step" or not (step.number + 1) % every):
            average.update_parameters(student)
    final = student if average is None else cast(Network, average.module)
    advice = f"a smaller lr than {peak} in the protocol may help."
    training.require_finite(last, final, f"{network} with seed {seed}", advice)
    return final.eval()


def training_steps(
    labelled: SyntheticSet,
    protocol: EvalProtocol,
    seed: int,
    *,
    join: bool = False,
    sampler: training.Sampler | None = None,
    soft: SoftLabels | None = None,
) -> Iterator[Step]:
    """The steps of a training, drawn by (seed, epoch); `join` and `sampler` as of `epoch_batches`.

    Without a sampler an epoch sees all images, or the protocol's `subset` of them.
    """
    assert protocol.steps is not None, "resolve() turns epochs into steps"
    count, size = len(labelled.labels), labelled.images.shape[-1]
    per_epoch = math.ceil(protocol.seen(count) / protocol.batch)
    if protocol.subset is not None:
        sampler = training.RandomSubsets(count, protocol.seen(count), seed=seed)
    for epoch in range(math.ceil(protocol.steps / per_epoch)):
        source = (seed, epoch) if soft is None else soft.replay(seed, epoch)
        draws = draw_views(protocol.views, count=count, size=size, seed=source[0], epoch=source[1])
        batches = training.epoch_batches(
            count,
            protocol.batch,
            protocol.augment,
            seed,
            "epoch",
            epoch,
            join=join,
            sampler=sampler,
        )
        for index, batch in enumerate(batches, start=1):
            number = epoch * per_epoch + math.ceil(index * per_epoch / len(batches)) - 1
            if number >= protocol.steps:
                break
            yield Step(number, batch, draws)


def label_loss(
    logits: Tensor,
    labels: Tensor,
    step: Step,
    views: Tensor,
    settings: Labels,
    soft: SoftLabels | None,
    weights: Tensor | None = None,
) -> Tensor:
    """() loss of float32 logits (B, C) for the views (B, 3, H, W) of a step.

    Args:
        logits: of the student.
        labels: (N,) of the whole set.
        step: whose images they are.
        views: what the student saw.
        settings: of the protocol's labels.
        soft: the teachers' logits, None for hard labels.
        weights: (B,) of the losses of these views; None where all are 1.
    """
    rows, draws = step.batch.rows, step.draws
    over: Reduction = "mean" if weights is None else "none"

    def hard() -> Tensor:
        own = labels[send(rows, labels.device)]
        if "partner" not in draws:
            return hard_loss(logits, own, smoothing=settings.smoothing, over=over)
        partners = labels[send(draws["partner"][rows], labels.device)]
        kept = send(draws["kept"][rows], labels.device)
        return hard_loss(logits, own, partners, kept, settings.smoothing, over)

    if soft is None:
        loss = hard()
    else:
        targets = soft.logits(rows, draws, views)
        loss = soft_loss(logits, targets, settings.loss, settings.temperature, over)
        if settings.soft_weight != 1:
            loss = settings.soft_weight * loss
        if settings.hard_weight:
            loss = loss + settings.hard_weight * hard()
    return loss if weights is None else (weights * loss).mean()


def mean_one(weights: Tensor | None) -> Tensor | None:
    """(N,) weights of a set's images, scaled to a mean of 1; None of a set without."""
    return None if weights is None else (weights / weights.double().mean()).float().cpu()


def hard_loss(
    logits: Tensor,
    labels: Tensor,
    partners: Tensor | None = None,
    kept: Tensor | None = None,
    smoothing: float = 0.0,
    over: Reduction = "mean",
) -> Tensor:
    """Cross-entropy with the classes of the images, mixed where these are: (), or (B,) of each.

    Args:
        logits: (B, C).
        labels: (B,).
        partners: (B,) classes of the images that were mixed in, None where none was.
        kept: (B,) share of the image itself.
        smoothing: share of the target that is spread over all classes.
        over: take the `mean` over images, or `none`.
    """
    if partners is None or kept is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction=over)
    own, other = (F.one_hot(y, logits.shape[1]).to(logits.dtype) for y in (labels, partners))
    targets = mix_targets(own, other, kept)
    return F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction=over)


def soft_loss(
    logits: Tensor,
    targets: Tensor,
    kind: Literal["ce", "kl", "mse"],
    temperature: float,
    over: Reduction = "mean",
) -> Tensor:
    """Loss of student logits (B, C) under the teacher's (B, C): (), or (B,) of each image.

    `kl` is the mean over images of KL(softmax(t / T) || softmax(s / T)), without the factor T^2 of
    Hinton et al. (https://arxiv.org/abs/1503.02531), as SRe2L and its successors have it; `ce` is
    the cross-entropy of softmax(s) with softmax(t / T); `mse` compares logits.
    """
    if kind == "mse":
        squares = F.mse_loss(logits, targets, reduction=over)
        return squares if over == "mean" else squares.mean(dim=1)
    if kind == "ce":
        return F.cross_entropy(logits, (targets / temperature).softmax(dim=1), reduction=over)
    divergence = F.kl_div(
        (logits / temperature).log_softmax(dim=1),
        (targets / temperature).log_softmax(dim=1),
        reduction="batchmean" if over == "mean" else "none",
        log_target=True,
    )
    return divergence if over == "mean" else divergence.sum(dim=1)


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


def share_of_peak(protocol: EvalProtocol, update: int, updates: int) -> float:
    """Learning rate at `update` of `updates`, as a share of the peak.

    With a `warmup`, it first rises linearly from `warmup_from` to the peak; the schedule then runs
    over what is left of the budget.
    """
    rising = int(protocol.warmup * updates + 1e-6)
    if update < rising:
        return protocol.warmup_from + (1 - protocol.warmup_from) * update / rising
    update, updates = update - rising, updates - rising
    if protocol.schedule == "cosine":
        return protocol.end + (1 - protocol.end) * _cosine(update, protocol.zeta * updates)
    if protocol.schedule == "linear":
        return 1 - update / (protocol.zeta * updates)
    if protocol.schedule == "multistep":
        passed = sum(update >= int(share * updates + 1e-6) for share in protocol.milestones)
        return protocol.gamma**passed
    if protocol.schedule == "warmup-cosine":
        half = updates // 2
        if update < half:
            return WARMUP_START + (1 - WARMUP_START) * update / half
        return _cosine(update - half, updates - half)
    return 1.0


def _cosine(update: int, updates: float) -> float:
    """From 1 to 0 along a half cosine."""
    return (1 + math.cos(math.pi * update / updates)) / 2


def ema_decay(update: int, most: float) -> float:
    """Decay of the averaged weights at their `update`-th update, counted from 0.

    min(most, 1 - 1 / (1 + update)): first a copy, then a plain mean, then an exponential one.
    """
    return min(most, 1 - 1 / (1 + update))


def _new_average(student: Network, protocol: EvalProtocol) -> AveragedModel:
    """Moving average of the weights; batch statistics are copied."""
    assert protocol.ema is not None
    most = protocol.ema
    if protocol.ema_every == "update":
        return training.moving_average(student, lambda update: ema_decay(update, most))
    average = training.moving_average(student, lambda _: most)
    average.n_averaged.fill_(1)  # the initial weights
    return average
