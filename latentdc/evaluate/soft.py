"""Soft labels of one set: fixed, computed for each view, or read from a store."""

from typing import Literal

import torch
from torch import Tensor

from latentdc.augment.mixing import mix_targets
from latentdc.augment.views import Draws
from latentdc.evaluate.store import Coded, LabelStore, decode, replayed_epoch
from latentdc.evaluate.teachers import Ensemble
from latentdc.images import send
from latentdc.recipe.labels import Labels

STORE_SEED = 0  # of the views whose labels are stored


class Online:
    """Computed for each view while a student is trained."""

    def __init__(self, teachers: Ensemble) -> None:
        self._teachers = teachers

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The training's own views."""
        return seed, epoch

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        logits: Tensor = self._teachers(views)
        return logits


class Fixed:
    """One label per image, of the image as it is; mixed where images are.

    Args:
        table: (N, C) logits on the device.
        labels: their loss and temperature say how to mix.
    """

    def __init__(self, table: Tensor, labels: Labels) -> None:
        self._table, self._labels = table, labels

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The training's own views."""
        return seed, epoch

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        device = self._table.device
        own = self._table[send(rows, device)]
        if "partner" not in draws:
            return own
        partners = self._table[send(draws["partner"][rows], device)]
        kept = send(draws["kept"][rows], device)
        return mix_logits(own, partners, kept, self._labels.loss, self._labels.temperature)


class Stored:
    """Read from a store, epoch by epoch.

    Args:
        store: whose epochs are there.
        pool: how many.
        epochs: of the training.
        classes: C.
        device: where the logits are wanted.
    """

    def __init__(
        self, store: LabelStore, *, pool: int, epochs: int, classes: int, device: torch.device
    ) -> None:
        self._store, self._pool, self._epochs = store, pool, epochs
        self._classes, self._device = classes, device
        self._coded: Coded = {}

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The views that were labelled; opens the labels of their epoch."""
        stored = replayed_epoch(epoch, self._pool, self._epochs, seed)
        self._coded = self._store.read(stored)
        return STORE_SEED, stored

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        return send(decode(self._coded, rows, self._classes), self._device)


def mix_logits(
    own: Tensor, partners: Tensor, kept: Tensor, kind: Literal["ce", "kl", "mse"], t: float
) -> Tensor:
    """(B, C) logits of two mixed labels: mixed themselves for `mse`, by their probabilities else.

    Then softmax(logits / t) = kept softmax(own / t) + (1 - kept) softmax(partners / t).
    """
    if kind == "mse":
        return mix_targets(own, partners, kept)
    mixed = mix_targets((own / t).softmax(dim=1), (partners / t).softmax(dim=1), kept)
    return mixed.clamp(min=1e-38).log() * t
