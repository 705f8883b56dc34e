"""Trajectory matching (MTT): a student of synthetic images shall end where experts of real ones do.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
https://arxiv.org/abs/2203.11932, Alg. 1. A step takes one expert, starts a student at its weights
after some epoch, lets it take a few steps of SGD on the synthetic images, and compares its weights
with the expert's some epochs later. The student's learning rate is learned beside the images; here
it cannot leave a positive range. Deviations: synthetic images may be decoded from latents; dropout
is off in the student, whose steps some forms take twice.
"""

from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentdc import draws, training
from latentdc.augment.dsa import augment
from latentdc.errors import InputError
from latentdc.modes import with_gradients
from latentdc.networks.base import Weights, disable_dropout
from latentdc.networks.build import new_network
from latentdc.objectives.base import LEARNED_LR, ObjectiveRequest, RealBatch, identity_of
from latentdc.objectives.unroll import FORMS, InnerLoss
from latentdc.recipe import ObjectiveSettings

MOMENTUM = 0.5  # of the learning rate's own SGD
RANGE = 100.0  # factor by which the learning rate may leave its start, either way


class TrajectoryMatching:
    """Trajectory matching as an objective; its loss is of the whole set, not of classes.

    Experts are of the settings' network, and saw real images with this normalisation; each is taken
    once before any is taken again.
    """

    scope: Literal["set"] = "set"
    sums_classes = False

    def __init__(self, settings: ObjectiveSettings, request: ObjectiveRequest) -> None:
        if request.experts is None:
            raise InputError(
                "mtt follows experts; pass some, such as those of latentdc.experts.files."
                "open_experts."
            )
        self.experts, self.settings = request.experts, settings.trajectory
        self.num_classes, self.resolution = request.num_classes, request.resolution
        self.normalization, self.augmentation = request.normalization, settings.augment
        self.batch, self.network = settings.batch, settings.network
        self.identity = identity_of(settings, request, self.experts)
        self.seed, sizes, classes = request.seed, request.sizes, request.num_classes
        self.student = disable_dropout(new_network(self.network, "inner", **sizes, seed=self.seed))
        batch = self.settings.batch_syn or classes
        self.join = training.joins(self.network, **sizes, count=classes, batch=batch)
        self.lr = torch.tensor(self.settings.lr_student)
        self.velocity = torch.zeros(())

    @with_gradients
    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """See `Objective.accumulate`; also updates the learning rate."""
        device = synthetic.device
        self.student.to(device)
        start, target = self._segment(step, device)
        labels = labels.to(device)
        losses = [self._inner_loss(batch, labels) for batch in self._batches(step, len(labels))]
        form = FORMS[self.settings.form]
        with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
            matched = form(losses, start, target, synthetic.detach(), self.lr.to(device))
        synthetic.grad = matched.images
        self._learn(matched.lr.cpu())
        return matched.loss

    def state(self) -> dict[str, Tensor]:
        """The learning rate and its momentum."""
        return {LEARNED_LR: self.lr, "lr_velocity": self.velocity}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.lr, self.velocity = state[LEARNED_LR], state["lr_velocity"]

    def _segment(self, step: int, device: torch.device) -> tuple[Weights, Weights]:
        """Where the student starts, and where it shall end."""
        lap, place = divmod(step, self.experts.count)
        order = torch.randperm(self.experts.count, generator=draws.generator(self.seed, "lap", lap))
        source = draws.generator(self.seed, "start epoch", step)
        first = int(torch.randint(self.settings.max_start_epoch, (), generator=source))

        def after(epoch: int) -> Weights:
            weights = self.experts.weights(int(order[place]), epoch)
            return {name: weight.to(device) for name, weight in weights.items()}

        return after(first), after(first + self.settings.expert_epochs)

    def _batches(self, step: int, images: int) -> Iterator[training.Batch]:
        """Rows and augmentation of each inner step: all images in a drawn order, then again."""
        size, strategy = self.settings.batch_syn or images, self.augmentation
        laps = (
            training.epoch_batches(
                images, size, strategy, self.seed, "inner", step, lap, join=self.join
            )
            for lap in count()
        )
        return islice((batch for lap in laps for batch in lap), self.settings.syn_steps)

    def _inner_loss(self, batch: training.Batch, labels: Tensor) -> InnerLoss:
        rows, draw = batch.rows.to(labels.device), batch.draw

        def loss(weights: Weights, images: Tensor) -> Tensor:
            inputs = augment(self.normalization(images[rows]), draw)
            logits = functional_call(self.student, weights, (inputs,))
            return F.cross_entropy(logits.float(), labels[rows])

        return loss

    def _learn(self, gradient: Tensor) -> None:
        """One step of SGD on the learning rate, which stays within `RANGE` of its start."""
        self.velocity = MOMENTUM * self.velocity + gradient
        start = self.settings.lr_student
        self.lr = (self.lr - self.settings.lr_lr * self.velocity).clamp(
            start / RANGE, start * RANGE
        )
