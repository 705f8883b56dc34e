"""`Lesson`: what one training is shown, and what its student's logits are compared with."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdc.data.mapped import Images
from latentdc.device import place, send
from latentdc.evaluate.losses import hard_loss, soft_loss
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.views import Draws, draw_views, look


class SoftLabels(Protocol):
    """The teachers' logits of the views that a training sees."""

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """Seed and epoch of the views that training `seed` shows in its `epoch`."""

    def logits(self, rows: Tensor, draws: Draws, seen: Tensor) -> Tensor:
        """(B, C) logits for the images at `rows` (B,), whose views are `seen` (B, 3, H, W)."""


class Lesson:
    """The images and labels of one training, epoch by epoch.

    Args:
        images: (N, 3, H, W) uint8, or floats in [-1, 1].
        labels: (N,) int64.
        protocol: its views and labels.
        seed: of the training.
        device: that computes.
        soft: the teachers' logits, where the protocol wants them, or those that the set brings.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        *,
        protocol: EvalProtocol,
        seed: int,
        device: torch.device,
        soft: SoftLabels | None,
    ) -> None:
        assert soft is not None or protocol.labels.source == "hard"
        self._images, self._labels = place(images, device), labels.to(device)
        self._views, self._target = protocol.views, protocol.labels
        self._seed, self._device, self._soft = seed, device, soft
        self._draws: Draws = {}

    def start(self, epoch: int) -> None:
        """Turn to the views of an epoch."""
        seed = self._seed
        if self._soft is not None:
            seed, epoch = self._soft.replay(seed, epoch)
        self._draws = draw_views(
            self._views,
            count=len(self._labels),
            size=self._images.shape[-1],
            seed=seed,
            epoch=epoch,
        )

    def show(self, rows: Tensor) -> Tensor:
        """(B, 3, H, W) views in [-1, 1] of the images at `rows` (B,), which are on the CPU."""
        return look(self._images, rows, self._draws, self._device)

    def loss(self, logits: Tensor, rows: Tensor, shown: Tensor) -> Tensor:
        """() loss of float32 logits (B, C) for what was `shown`."""
        target = self._target
        if self._soft is None:
            return self._hard_loss(logits, rows)
        taught = self._soft.logits(rows, self._draws, shown)
        loss = soft_loss(logits, taught, target.loss, target.temperature)
        if target.soft_weight != 1:
            loss = target.soft_weight * loss
        if target.hard_weight:
            loss = loss + target.hard_weight * self._hard_loss(logits, rows)
        return loss

    def losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        """(B,) losses under the classes of the images at `rows`, where no others are mixed in."""
        labels = self._labels[send(rows, self._device)]
        smoothing = self._target.smoothing
        return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")

    def _hard_loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        labels, smoothing = self._labels[send(rows, self._device)], self._target.smoothing
        if "partner" not in self._draws:
            return hard_loss(logits, labels, smoothing=smoothing)
        partners = self._labels[send(self._draws["partner"][rows], self._device)]
        kept = send(self._draws["kept"][rows], self._device)
        return hard_loss(logits, labels, partners, kept, smoothing)
