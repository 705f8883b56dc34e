"""Scorers and classifiers that are trained here on real images, by one process or by all."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from latentdc import io, modes, ranks, runtime, training
from latentdc.data.dataset import Dataset
from latentdc.divided import Divided, is_divided, process_facts
from latentdc.images import fetch, place, send
from latentdc.modes import with_gradients
from latentdc.networks.base import Weights
from latentdc.networks.build import new_network
from latentdc.preprocessing import Unwhitened
from latentdc.prune import scorers
from latentdc.recipe import Scorer, identity


class ScorerTraining:
    """A training that can be looked at after each epoch, put away and continued.

    SGD with momentum 0.9, cosine schedule, no augmentation: scores are of the images as they are.
    Where a step is much work, the processes divide each batch (`Divided`); InfoBatch, which needs
    the losses of all of it, is not divided. Else every process trains the same network on all of
    the data. After each epoch all take the main one's, so that they look at the images with the
    same weights.

    Initial weights, batch order and dropout follow from the seed. With `rows` (n,) only these are
    trained on. `on_step` is told `epoch`, `step` and `loss` of each step, on every process, where
    batches are divided the mean over its share.
    """

    def __init__(
        self,
        train: Dataset,
        scorer: Scorer,
        *,
        normalization: Unwhitened,
        seed: int,
        accelerator: Accelerator,
        rows: Tensor | None = None,
        on_step: training.OnStep | None = None,
    ) -> None:
        rows = torch.arange(len(train)) if rows is None else rows
        resolution = scorer.resolution or train.resolution
        sizes = {"num_classes": train.num_classes, "resolution": resolution}
        # Batches of one are refused where the network cannot take them.
        training.joins(scorer.network, count=len(rows), batch=scorer.batch, **sizes)
        model = new_network(scorer.network, "scorer", seed=seed, **sizes)
        device = accelerator.device
        self.classifier = scorers.Classifier(
            model, scorers.preparation(resolution, normalization)
        ).to(device)
        self.done, self._scorer = 0, scorer
        self._optimizer = SGD(self.classifier.parameters(), lr=scorer.lr, momentum=0.9)
        self._precision = training.Precision(accelerator)
        self._images, self._labels = place(train.images, device), train.labels.to(device)
        self._rows = rows
        self._sampler = None
        if scorer.infobatch is not None:
            self._sampler = training.InfoBatch(
                len(rows), scorer.epochs, rho=scorer.infobatch, seed=seed
            )
        self._seed, self._accelerator, self._on_step = seed, accelerator, on_step
        divides = _is_shared_training(scorer, train, accelerator)
        what = f"the scorer {scorer.network}" if divides else None
        self._divided = Divided(self.classifier, accelerator, what, scorer.batch)

    def run(self, until: int | None = None) -> Iterator[int]:
        """Train on to the end, or to epoch `until` of it, yielding each when it is over."""
        epochs = self._scorer.epochs
        for epoch in range(self.done, until or epochs):
            self.classifier.train()
            count, keys, sampler = len(self._rows), ("scorer", epoch), self._sampler
            batches = training.epoch_batches(
                count, self._scorer.batch, None, self._seed, *keys, join=True, sampler=sampler
            )  # whose rows are places among `rows`
            steps = training.fit(
                self._divided.network,
                enumerate(batches, start=epoch * len(batches)),
                self._loss,
                self._optimizer,
                precision=self._precision,
                lr=partial(self._lr, steps=epochs * len(batches)),
                dropout=(self._seed, *self._divided.keys("dropout", "scorer", epoch)),
            )
            for (number, _), _ in ranks.progress(
                steps,
                f"training the scorer, epoch {epoch + 1} of {epochs}",
                total=len(batches),
                leave=False,
                delay=2,
            ):
                if self._on_step is not None:
                    loss = float(self._divided.latest)
                    self._on_step({"epoch": epoch, "step": number, "loss": loss})
            self.done = epoch + 1
            if self._accelerator.num_processes > 1:  # GPUs may drift apart by rounding
                self.restore(runtime.broadcast(self.state()))
            yield epoch

    def _lr(self, step: tuple[int, training.Batch], *, steps: int) -> float:
        return self._scorer.lr * ((1 + math.cos(math.pi * step[0] / steps)) / 2)

    def _loss(self, forward: training.Forward, step: tuple[int, training.Batch]) -> Tensor:
        def loss(batch: training.Batch) -> Tensor:
            rows, device = self._rows[batch.rows], self._accelerator.device
            logits = forward(fetch(self._images, rows, device))
            labels = self._labels[send(rows, device)]
            if self._sampler is None:
                return F.cross_entropy(logits, labels)
            return self._sampler.loss(batch, logits, labels)

        return self._divided.mean(loss, step[1])

    def state(self) -> Weights:
        """Tensors that `restore` needs, on the CPU."""
        state = {f"model.{key}": value for key, value in self.classifier.state_dict().items()}
        for index, slot in self._optimizer.state_dict()["state"].items():
            state[f"momentum.{index}"] = slot["momentum_buffer"]
        if self._sampler is not None:
            state["losses"] = self._sampler.losses
        state["done"] = torch.tensor(self.done)
        return {key: value.detach().cpu().contiguous() for key, value in state.items()}

    def restore(self, state: Weights) -> None:
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


def _is_shared_training(scorer: Scorer, train: Dataset, accelerator: Accelerator) -> bool:
    """Whether the processes divide the batches of a scorer's training."""
    return scorer.infobatch is None and is_divided(
        scorer.network,
        num_classes=train.num_classes,
        resolution=scorer.resolution or train.resolution,
        batch=scorer.batch,
        processes=accelerator.num_processes,
    )


def scorer_facts(scorer: Scorer, train: Dataset, accelerator: Accelerator) -> dict[str, object]:
    """The number of processes, where a scorer that is trained here depends on it; else nothing."""
    if scorer.weights is not None or not _is_shared_training(scorer, train, accelerator):
        return {}
    size = scorer.resolution or train.resolution
    sizes = {"num_classes": train.num_classes, "resolution": size}
    return process_facts(scorer.network, **sizes, processes=accelerator.num_processes)


@with_gradients
def real_classifier(
    scorer: Scorer,
    train: Dataset,
    open_test: Callable[[], Dataset],
    *,
    normalization: Unwhitened,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
) -> tuple[scorers.Classifier, float]:
    """The network of `prune.scorer`, trained to the end or given, and its accuracy on the test set.

    Trained here it sees the training images as they are, without augmentation; it is kept in a
    folder that the runs of a sweep share, and of several runs that ask for it one trains it.

    Raises:
        InputError: weights that do not fit, or a classifier at chance.
    """
    test = open_test()
    if scorer.weights is not None:
        size = scorer.resolution or train.resolution  # torchvision's own preparation would crop
        classifier = scorers.given_scorer(replace(scorer, resolution=size), train, normalization)
        classifier = classifier.to(accelerator.device)
    else:
        trainer = ScorerTraining(
            train, scorer, normalization=normalization, seed=seed, accelerator=accelerator
        )
        classifier = trainer.classifier
        facts = {
            "data": train.hash,
            "scorer": identity.facts_of(scorer),
            "normalization": normalization.facts(),
            "seed": seed,
            "precision": modes.precision_of(accelerator),
            **scorer_facts(scorer, train, accelerator),
        }

        def train_it() -> Weights:
            epochs = trainer.run()
            for _ in ranks.progress(epochs, "classifier", total=scorer.epochs, unit=" epochs"):
                pass
            trained = classifier.state_dict()
            return {name: value.cpu().contiguous() for name, value in trained.items()}

        def kept(make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
            return io.cached(
                folder, facts, make, io.load_tensors, io.save_tensors, name="{}.safetensors"
            )

        classifier.load_state_dict(runtime.together(accelerator, kept, train_it))
    classifier.eval().requires_grad_(False)
    accuracy = scorers.real_accuracy(classifier, test.images, test.labels, accelerator.device)
    advice = "train it for more prune.scorer.epochs, or check class order and normalisation"
    scorers.refuse_chance(accuracy, test.counts, advice)
    return classifier, accuracy


@with_gradients
def trained_as_long(
    scorer: Scorer,
    few: Dataset,
    *,
    images: int,
    normalization: Unwhitened,
    seed: int,
    accelerator: Accelerator,
) -> scorers.Classifier:
    """The network of `prune.scorer`, trained on few images for as many steps as on `images`."""
    steps = scorer.epochs * -(-images // scorer.batch)
    epochs = -(-steps // -(-len(few) // scorer.batch))
    settings = replace(scorer, epochs=epochs, infobatch=None)
    trainer = ScorerTraining(
        few, settings, normalization=normalization, seed=seed, accelerator=accelerator
    )
    for _ in trainer.run():
        pass
    return trainer.classifier.eval().requires_grad_(False)
