"""Scorers trained on the spot, on the images that they will rank."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from tqdm import tqdm

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.device import fetch, place, send
from latentdc.draws import generator, global_draws
from latentdc.networks import new_network
from latentdc.prune.classifier import Classifier
from latentdc.prune.scorer import preparation
from latentdc.standardization import Plain
from latentdc.training import InfoBatch, joins, split

State = dict[str, Tensor]


class ScorerTraining:
    """A training that can be looked at after each epoch, put away and continued.

    SGD with momentum 0.9, cosine schedule, no augmentation: scores are of the images as they are.
    Every process trains the same network on all of the data, and takes the main one's after each
    epoch, so that all look at the images with the same weights.

    Args:
        train: images to learn and, later, to rank.
        network: name of one of our networks.
        epochs: passes over the data, by which the schedule is laid out.
        lr: peak learning rate.
        batch: images per step.
        resolution: in pixels, to which images are resized.
        normalization: of the images.
        seed: initial weights, batch order and dropout follow from it.
        accelerator: its device and precision are used.
        rows: (n,) images to train on; None takes all.
        infobatch: rho of InfoBatch; None sees every image in every epoch.
    """

    def __init__(
        self,
        train: Dataset,
        *,
        network: str,
        epochs: int,
        lr: float,
        batch: int,
        resolution: int,
        normalization: Plain,
        seed: int,
        accelerator: Accelerator,
        rows: Tensor | None = None,
        infobatch: float | None = None,
    ) -> None:
        rows = torch.arange(len(train)) if rows is None else rows
        sizes = {"num_classes": train.num_classes, "resolution": resolution}
        joins(network, count=len(rows), batch=batch, **sizes)  # refuses batches of one image
        model = new_network(network, "scorer", seed=seed, **sizes)
        device = accelerator.device
        self.classifier = Classifier(model, preparation(resolution, normalization)).to(device)
        self.epochs, self.done, self._lr, self._batch = epochs, 0, lr, batch
        self._optimizer = SGD(self.classifier.parameters(), lr=lr, momentum=0.9)
        self._scaler = torch.amp.GradScaler(
            device.type, enabled=accelerator.mixed_precision == "fp16"
        )
        self._images, self._labels = place(train.images, device), train.labels.to(device)
        self._rows = rows
        self._sampler = (
            None
            if infobatch is None
            else InfoBatch(len(self._rows), epochs, rho=infobatch, seed=seed)
        )
        self._seed, self._accelerator = seed, accelerator

    def run(self, until: int | None = None) -> Iterator[int]:
        """Train on to the end, or to epoch `until` of it, yielding each when it is over."""
        for epoch in range(self.done, self.epochs if until is None else until):
            self.classifier.train()
            batches = self._batches(epoch)
            steps = self.epochs * len(batches)
            bar = tqdm(
                batches,
                desc=f"training the scorer, epoch {epoch + 1} of {self.epochs}",
                leave=False,
                delay=2,  # seconds
                disable=not self._accelerator.is_main_process,
            )
            with global_draws(self._seed, "dropout", "scorer", epoch):
                for step, (places, weights) in enumerate(bar, start=epoch * len(batches)):
                    lr = self._lr * ((1 + math.cos(math.pi * step / steps)) / 2)
                    self._step(places, weights, lr)
            self.done = epoch + 1
            if self._accelerator.num_processes > 1:
                self._share()
            yield epoch

    def _share(self) -> None:
        """Go on from the main process's copy, from which GPUs may drift by rounding."""
        self.restore(cast(State, launch.agree(self._accelerator, self.state())))

    def _batches(self, epoch: int) -> list[tuple[Tensor, Tensor | None]]:
        """Places among the rows, and weights, of each step of an epoch."""
        source = generator(self._seed, "scorer", epoch)
        if self._sampler is None:
            order = torch.randperm(len(self._rows), generator=source)
            return [(places, None) for places in split(order, self._batch, join=True)]
        seen, weights = self._sampler.epoch(epoch)
        order = torch.randperm(len(seen), generator=source)
        parts = split(order, self._batch, join=True)
        return [(seen[some], weights[some]) for some in parts]

    def _step(self, places: Tensor, weights: Tensor | None, lr: float) -> None:
        device, rows = self._accelerator.device, self._rows[places]
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        with self._accelerator.autocast():
            logits = self.classifier(fetch(self._images, rows, device))
        labels = self._labels[send(rows, device)]
        if weights is None or self._sampler is None:
            loss = F.cross_entropy(logits.float(), labels)
        else:
            losses = F.cross_entropy(logits.float(), labels, reduction="none")
            self._sampler.update(places, losses)
            loss = (losses * send(weights, device)).mean()
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()

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
