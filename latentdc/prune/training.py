"""Scorers trained on the spot, on the images that they will rank."""

import math
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from tqdm import tqdm

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.images import Plain, fetch, place, send
from latentdc.networks import new_network
from latentdc.prune.classifier import Classifier
from latentdc.prune.scorer import preparation
from latentdc.recipe import Scorer
from latentdc.training import Batch, Forward, InfoBatch, Precision, epoch_batches, fit, joins

State = dict[str, Tensor]


class ScorerTraining:
    """A training that can be looked at after each epoch, put away and continued.

    SGD with momentum 0.9, cosine schedule, no augmentation: scores are of the images as they are.
    Every process trains the same network on all of the data, and takes the main one's after each
    epoch, so that all look at the images with the same weights.

    Args:
        train: images to learn and, later, to rank.
        scorer: network and training.
        normalization: of the images.
        seed: initial weights, batch order and dropout follow from it.
        accelerator: its device and precision are used.
        rows: (n,) images to train on; None takes all.
    """

    def __init__(
        self,
        train: Dataset,
        scorer: Scorer,
        *,
        normalization: Plain,
        seed: int,
        accelerator: Accelerator,
        rows: Tensor | None = None,
    ) -> None:
        rows = torch.arange(len(train)) if rows is None else rows
        resolution = scorer.resolution or train.resolution
        sizes = {"num_classes": train.num_classes, "resolution": resolution}
        joins(scorer.network, count=len(rows), batch=scorer.batch, **sizes)  # refuses ones of one
        model = new_network(scorer.network, "scorer", seed=seed, **sizes)
        device = accelerator.device
        self.classifier = Classifier(model, preparation(resolution, normalization)).to(device)
        self.done, self._scorer = 0, scorer
        self._optimizer = SGD(self.classifier.parameters(), lr=scorer.lr, momentum=0.9)
        self._precision = Precision(accelerator)
        self._images, self._labels = place(train.images, device), train.labels.to(device)
        self._rows = rows
        self._sampler = None
        if scorer.infobatch is not None:
            self._sampler = InfoBatch(len(rows), scorer.epochs, rho=scorer.infobatch, seed=seed)
        self._seed, self._accelerator = seed, accelerator

    def run(self, until: int | None = None) -> Iterator[int]:
        """Train on to the end, or to epoch `until` of it, yielding each when it is over."""
        epochs = self._scorer.epochs
        for epoch in range(self.done, until or epochs):
            self.classifier.train()
            batches = self._batches(epoch)
            steps = fit(
                self.classifier,
                enumerate(batches, start=epoch * len(batches)),
                self._loss,
                self._optimizer,
                precision=self._precision,
                lr=partial(self._lr, steps=epochs * len(batches)),
                dropout=(self._seed, "dropout", "scorer", epoch),
            )
            for _ in tqdm(
                steps,
                total=len(batches),
                desc=f"training the scorer, epoch {epoch + 1} of {epochs}",
                leave=False,
                delay=2,  # seconds
                disable=not self._accelerator.is_main_process,
            ):
                pass
            self.done = epoch + 1
            if self._accelerator.num_processes > 1:
                self._share()
            yield epoch

    def _share(self) -> None:
        """Go on from the main process's copy, from which GPUs may drift by rounding."""
        self.restore(cast(State, launch.agree(self._accelerator, self.state())))

    def _batches(self, epoch: int) -> list[Batch]:
        """Of an epoch; their rows are places among `rows`."""
        count, batch, keys = len(self._rows), self._scorer.batch, ("scorer", epoch)
        sampler = self._sampler
        return epoch_batches(count, batch, None, self._seed, *keys, join=True, infobatch=sampler)

    def _lr(self, step: tuple[int, Batch], *, steps: int) -> float:
        return self._scorer.lr * ((1 + math.cos(math.pi * step[0] / steps)) / 2)

    def _loss(self, forward: Forward, step: tuple[int, Batch]) -> Tensor:
        device, batch = self._accelerator.device, step[1]
        rows = self._rows[batch.rows]
        logits = forward(fetch(self._images, rows, device))
        labels = self._labels[send(rows, device)]
        if self._sampler is None:
            return F.cross_entropy(logits, labels)
        return self._sampler.loss(batch, logits, labels)

    def state(self) -> State:
        """All that `restore` needs, on the CPU."""
        state = {f"model.{key}": value for key, value in self.classifier.state_dict().items()}
        for index, slot in self._optimizer.state_dict()["state"].items():
            state[f"momentum.{index}"] = slot["momentum_buffer"]
        if self._sampler is not None:
            state["losses"] = self._sampler.losses
        state["done"] = torch.tensor(self.done)
        return {key: value.detach().cpu().contiguous() for key, value in state.items()}

    def restore(self, state: State) -> None:
        """Go on where `state` was taken."""
        self.classifier.load_state_dict(
            {key.removeprefix("model."): v for key, v in state.items() if key[:6] == "model."}
        )
        slots = {
            int(k[9:]): {"momentum_buffer": v} for k, v in state.items() if k[:9] == "momentum."
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": slots})
        if self._sampler is not None:
            self._sampler.losses = state["losses"].clone()
        self.done = int(state["done"])
