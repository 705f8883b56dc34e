"""Train a student on a set of labelled images, or one for each of several seeds together."""

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from latentdc import training
from latentdc.augment.dsa import augment_classes
from latentdc.augment.mixing import mix_targets
from latentdc.augment.views import view
from latentdc.divided import Divided
from latentdc.evaluate.setting import Setting
from latentdc.evaluate.steps import (
    SoftLabels,
    TrainingStep,
    joined_images,
    joined_steps,
    training_steps,
)
from latentdc.images import send
from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.networks.stacked import Stacked
from latentdc.recipe.labels import Labels
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet

Reduction = Literal["mean", "none"]
_WARMUP_START = 1e-7  # share of the peak learning rate at which `warmup-cosine` begins


def train_student(
    labelled: SyntheticSet,
    network: str,
    protocol: EvalProtocol,
    setting: Setting,
    *,
    seed: int,
    soft: SoftLabels | None = None,
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
        setting: normalisation, device and precision, and what is told of each step.
        seed: initial weights, batch order, views, augmentation and dropout follow from it.
        soft: the teachers' logits; needed unless the protocol's labels are hard.
        divided: what is trained, if by all processes, which call this together (see `Divided`);
            None for a training of this process alone.

    Returns:
        The weights of the last step, or their average, on the accelerator's device, in eval mode.

    Raises:
        InputError: a network that cannot learn from batches of one image.
        RunError: loss or weights ended as NaN or infinity.
    """
    (student,) = train_together(
        [labelled], network, protocol, setting, seeds=[seed], soft=[soft], divided=divided
    )
    return student


def train_together(
    sets: Sequence[SyntheticSet],
    network: str,
    protocol: EvalProtocol,
    setting: Setting,
    *,
    seeds: Sequence[int],
    soft: Sequence[SoftLabels | None],
    divided: str | None = None,
) -> Sequence[Network]:
    """What `train_student` does for each seed, the students of several stacked as one network.

    Each sees the batches, views and augmentations that it sees alone, and its loss moves its own
    weights alone, so that a step is the same but for rounding. The sets are of one size, all with
    weights or none; a scale of fp16 losses would be one for all students, and is refused before.
    """
    accelerator, every, count = setting.accelerator, protocol.update_every, len(sets[0].labels)
    several, seen = len(sets) > 1, protocol.seen(count)
    size = {"num_classes": len(sets[0].class_names), "resolution": sets[0].images.shape[-1]}
    students = [
        new_network(network, "student", seed=seed, **size).to(accelerator.device) for seed in seeds
    ]
    student = Stacked(students) if several else students[0]
    optimizer = new_optimizer(student, network, protocol)
    average = None if protocol.ema is None else _new_average(student, protocol)
    join = training.joins(network, count=seen, batch=protocol.batch, **size)
    infobatch = None
    if (rho := protocol.infobatch) is not None:
        infobatch = training.InfoBatch(count, protocol.epochs_on(count), rho=rho, seed=seeds[0])
    losses = _Losses(sets, protocol, setting, soft, infobatch)
    each = [
        training_steps(one, protocol, seed, join=join, sampler=infobatch, soft=labels_of)
        for one, seed, labels_of in zip(sets, seeds, soft, strict=True)
    ]
    shares = Divided(student, accelerator, divided, min(protocol.batch, seen))
    peak, updates = protocol.lr_for(network), math.ceil(protocol.budget / every)

    def loss(forward: training.Forward, step: TrainingStep) -> Tensor:
        return shares.mean(lambda own: losses(forward, step._replace(batch=own)), step.batch)

    trained = training.fit(
        shares.network,
        joined_steps(each, count) if several else each[0],
        loss,
        optimizer,
        precision=training.Precision(accelerator),
        lr=lambda step: peak * share_of_peak(protocol, step.number // every, updates),
        dropout=(seeds[0], *shares.keys("dropout")),
    )
    on_step = setting.on_step if divided is None or accelerator.is_main_process else None
    for step, _ in trained:
        if on_step is not None:
            for seed, now in zip(seeds, losses.latest.tolist(), strict=True):  # waits for device
                on_step({"student": network, "seed": seed, "step": step.number, "loss": now})
        if average is not None and (protocol.ema_every == "step" or not (step.number + 1) % every):
            average.update_parameters(student)
    final = student if average is None else average.module
    found = final.split(students) if isinstance(final, Stacked) else [cast(Network, final)]
    advice = f"a smaller lr than {peak} in the protocol may help."
    for seed, last, one in zip(seeds, losses.latest, found, strict=True):
        training.require_finite(last, one, f"{network} with seed {seed}", advice)
    return [one.eval() for one in found]


class _Losses:
    """The losses of K students, of each on a set of its own; the sets stand one after another.

    Attributes:
        latest: (K,) of the last step, each a mean over its images, without gradients.
    """

    def __init__(
        self,
        sets: Sequence[SyntheticSet],
        protocol: EvalProtocol,
        setting: Setting,
        soft: Sequence[SoftLabels | None],
        infobatch: training.InfoBatch | None,
    ) -> None:
        assert None not in soft or protocol.labels.source == "hard"
        self.settings, self.soft, self.infobatch = protocol.labels, soft, infobatch
        self.normalization, self.device = setting.normalization, setting.accelerator.device
        self.images = joined_images(sets, self.device)
        self.labels = _joined([one.labels for one in sets]).to(self.device)
        weighed = [weights for one in sets if (weights := mean_one(one.weights)) is not None]
        self.weights = _joined(weighed) if weighed else None
        self.latest = torch.zeros(len(sets))

    def __call__(self, forward: training.Forward, step: TrainingStep) -> Tensor:
        """() their sum for the views of a step."""
        parts = step.parts or (step,)
        views = view(self.images, step.batch.rows, step.draws, self.device)
        draws, counts = zip(*((p.batch.draw, len(p.batch.rows)) for p in parts), strict=True)
        logits = forward(augment_classes(self.normalization(views), draws, counts))
        if self.infobatch is not None:
            own = self.labels[send(step.batch.rows, self.device)]
            value = self.infobatch.loss(step.batch, logits, own, self.settings.smoothing)
        else:
            targets = [
                teacher.logits(part.batch.rows, part.draws, seen)
                for teacher, part, seen in zip(
                    self.soft, parts, views.chunk(len(parts)), strict=True
                )
                if teacher is not None
            ]
            value = label_loss(
                logits,
                self.labels,
                step,
                self.settings,
                _joined(targets) if targets else None,
                None if self.weights is None else send(step.mixed(self.weights), self.device),
            )
        self.latest = value.detach().view(-1)
        return value.sum() if step.parts else value


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all, one after another."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def label_loss(
    logits: Tensor,
    labels: Tensor,
    step: TrainingStep,
    settings: Labels,
    targets: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """() loss of a student's float32 logits (B, C) for the views of a step, or (K,) of its K parts.

    Args:
        logits: of the student, or (K B, C) of several.
        labels: (N,) of the whole set.
        step: whose images they are.
        settings: of the protocol's labels.
        targets: the teachers' logits, as many; None for hard labels.
        weights: (B,) of the losses of these views; None where all are 1.
    """
    rows, draws = step.batch.rows, step.draws
    over: Reduction = "mean" if weights is None and not step.parts else "none"

    def hard() -> Tensor:
        own = labels[send(rows, labels.device)]
        if "partner" not in draws:
            return hard_loss(logits, own, smoothing=settings.smoothing, over=over)
        partners = labels[send(draws["partner"][rows], labels.device)]
        kept = send(draws["kept"][rows], labels.device)
        return hard_loss(logits, own, partners, kept, settings.smoothing, over)

    if targets is None:
        loss = hard()
    else:
        loss = soft_loss(logits, targets, settings.loss, settings.temperature, over)
        if settings.soft_weight != 1:
            loss = settings.soft_weight * loss
        if settings.hard_weight:
            loss = loss + settings.hard_weight * hard()
    loss = loss if weights is None else weights * loss
    if step.parts:
        return loss.view(len(step.parts), -1).mean(dim=1)
    return loss if weights is None else loss.mean()


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

    `partners` (B,) are the classes of the images that were mixed in, `kept` (B,) the share of the
    image itself; `smoothing` is the share of the target that is spread over all classes.
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
            return _WARMUP_START + (1 - _WARMUP_START) * update / half
        return _cosine(update - half, updates - half)
    return 1.0


def _cosine(update: int, updates: float) -> float:
    """Height of a half cosine, from 1 at update 0 to 0 at the last."""
    return (1 + math.cos(math.pi * update / updates)) / 2


def ema_decay(update: int, most: float) -> float:
    """Decay of the averaged weights at their `update`-th update, counted from 0.

    min(most, 1 - 1 / (1 + update)): first a copy, then a plain mean, then an exponential one.
    """
    return min(most, 1 - 1 / (1 + update))


def _new_average(student: nn.Module, protocol: EvalProtocol) -> AveragedModel:
    """Moving average of the weights; batch statistics are copied."""
    assert protocol.ema is not None
    most = protocol.ema
    if protocol.ema_every == "update":
        return training.moving_average(student, lambda update: ema_decay(update, most))
    average = training.moving_average(student, lambda _: most)
    average.n_averaged.fill_(1)  # the initial weights
    return average
