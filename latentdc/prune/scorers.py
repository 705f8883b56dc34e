"""Classifiers of real data: with given weights, or trained on the images that they will rank."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import cast
from urllib.error import URLError

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from latentdc import runtime
from latentdc.data.dataset import Dataset, class_counts, hash_samples
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.images import Images, Plain, Standardization, contiguous, fetch, kind_of, place, send
from latentdc.io import fingerprint, load_tensors, save_tensors
from latentdc.networks import build_network, new_network
from latentdc.ranks import progress
from latentdc.recipe import Scorer
from latentdc.recipe.fields import nearest
from latentdc.recipe.labels import Teacher
from latentdc.recipe.networks import pretrained
from latentdc.recipe.subsets import imagenet_indices, wordnet_ids
from latentdc.tf32 import precision_of
from latentdc.training import (
    Batch,
    Forward,
    InfoBatch,
    OnStep,
    Precision,
    epoch_batches,
    fit,
    joins,
)

CHECKED = 2000  # real test images, drawn by key, on which a teacher must beat chance
State = dict[str, Tensor]


class Classifier(nn.Module):
    """Images in [-1, 1] to logits of the data set's classes.

    Args:
        network: (B, 3, H, W) input -> (B, K) logits.
        prepare: (B, 3, H, W) images in [0, 1], or (B, D) vectors -> the network's input.
        columns: position of each class of the data set among the K; None where they are the same.
    """

    columns: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prepare = prepare
        self.register_buffer("columns", None if columns is None else torch.tensor(columns))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1], or (B, D) vectors -> (B, C) logits."""
        logits: Tensor = self.network(self.input_of(images))
        return self.restrict(logits)

    def input_of(self, images: Tensor) -> Tensor:
        """What the network sees of images in [-1, 1], or of vectors."""
        seen = self.prepare(images if kind_of(images) == "vectors" else (images + 1) / 2)
        return contiguous(seen)

    def restrict(self, logits: Tensor) -> Tensor:
        """(B, K) logits of the network -> (B, C) of the data set's classes."""
        return logits if self.columns is None else logits[:, self.columns]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) images -> (B, C) logits and the (B, D) features that the last layer sees.

        Raises:
            InputError: the network does not end in a linear layer.
        """
        seen: list[Tensor] = []
        hook = self._head().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(images)
        finally:
            hook.remove()
        return logits, seen[-1].flatten(start_dim=1)

    @property
    def width(self) -> int:
        """D of `embed`."""
        return self._head().in_features

    def _head(self) -> nn.Linear:
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(
                f"the scorer {type(self.network).__name__} has no linear layer whose input could "
                "be its features; choose another prune.scorer.network, or bring prune.features."
            )
        return linear[-1]


def given_scorer(
    settings: Scorer | Teacher, data: Dataset, normalization: Plain, key: str = "prune.scorer"
) -> Classifier:
    """A classifier with given weights, for the classes of a data set.

    Of weights for all 1000 classes of ImageNet, a smaller set's are found by WordNet id or name;
    others were trained in the class order of the data set.

    Args:
        settings: network and weights; torchvision's are given images that are resized and cropped
            as the weights were evaluated, unless `resolution` says otherwise.
        data: for names of classes, and the size of its images.
        normalization: that weights of a file expect; torchvision's have their own.
        key: of the recipe or protocol that named them, for messages.

    Raises:
        InputError: no such network or weights, weights of another network or number of classes, or
            weights for ImageNet, which lacks a class.
    """
    assert settings.weights is not None
    published = pretrained(settings.weights)
    if published is not None:
        return _torchvision_classifier(settings, published, data.class_names)
    count, columns = data.num_classes, None
    resolution = settings.resolution or data.resolution
    model = build_network(settings.network, num_classes=count, resolution=resolution)
    try:
        state = model.named(load_file(settings.weights))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{key}: cannot read the weights {settings.weights}: {error}") from error
    last = state.get("linear.weight")
    if last is not None and last.shape[0] == len(wordnet_ids()) != count:
        columns, count = imagenet_indices(data.class_names), len(wordnet_ids())
        model = build_network(settings.network, num_classes=count, resolution=resolution)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        why = " ".join(str(error).split()).partition(": ")[2]
        raise InputError(
            f"{settings.weights} does not fit {settings.network} with {count} classes; name the "
            f"network of these weights in {key}: {why[:300]}"
        ) from error
    return Classifier(model, preparation(resolution, normalization), columns)


def _torchvision_classifier(
    settings: Scorer | Teacher, published: str, class_names: Sequence[str]
) -> Classifier:
    """With `published` weights for ImageNet, restricted to the classes of a data set."""
    from torchvision import models  # takes a second

    name, known = settings.network, models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no classifier {name!r}{nearest(name, known)}.")
    columns = imagenet_indices(class_names)
    members = models.get_model_weights(name).__members__  # DEFAULT is one name more of one of them
    if published not in members:
        raise InputError(
            f"torchvision has no weights {published!r} of {name}{nearest(published, members)}; it "
            f"has {', '.join(members)}."
        )
    weights, size = members[published], settings.resolution
    try:
        model: nn.Module = models.get_model(name, weights=weights)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f"cannot load the weights of {name}: {error}; download {weights.url} and put it into "
            f"{folder}."
        ) from error
    changes = {"crop_size": size, "resize_size": size, "mean": settings.mean, "std": settings.std}
    prepare = weights.transforms(**{key: v for key, v in changes.items() if v is not None})
    whole = columns == list(range(len(wordnet_ids())))
    return Classifier(model, prepare, None if whole else columns)


def preparation(resolution: int, normalization: Plain) -> Callable[[Tensor], Tensor]:
    """From (B, 3, H, W) images in [0, 1], or from vectors, to the input of one of our networks."""
    if isinstance(normalization, Standardization):
        return normalization
    from torchvision.transforms import v2  # takes a second

    resize = v2.Resize([resolution, resolution], antialias=True)
    prepare: Callable[[Tensor], Tensor]
    prepare = v2.Compose([resize, v2.Normalize(normalization.mean, normalization.std)])
    return prepare


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
        on_step: is told `epoch`, `step` and `loss` of each step; None tells nobody.
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
        on_step: OnStep | None = None,
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
        self._seed, self._accelerator, self._on_step = seed, accelerator, on_step

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
            for (number, _), loss in progress(
                steps,
                f"training the scorer, epoch {epoch + 1} of {epochs}",
                total=len(batches),
                leave=False,
                delay=2,
            ):
                if self._on_step is not None:
                    self._on_step({"epoch": epoch, "step": number, "loss": float(loss)})
            self.done = epoch + 1
            if self._accelerator.num_processes > 1:
                self._share()
            yield epoch

    def _share(self) -> None:
        """Go on from the main process's copy, from which GPUs may drift by rounding."""
        self.restore(cast(State, runtime.broadcast(self._accelerator, self.state())))

    def _batches(self, epoch: int) -> list[Batch]:
        """Of an epoch; their rows are places among `rows`."""
        count, batch, keys = len(self._rows), self._scorer.batch, ("scorer", epoch)
        sampler = self._sampler
        return epoch_batches(count, batch, None, self._seed, *keys, join=True, sampler=sampler)

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


@runtime.with_gradients
def real_classifier(
    scorer: Scorer,
    train: Dataset,
    test: Dataset,
    *,
    normalization: Plain,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
) -> tuple[Classifier, float]:
    """The network of `prune.scorer`, trained to the end or given, and its accuracy on the test set.

    Trained here it sees the training images as they are, without augmentation; it is kept in a
    folder that the runs of a sweep share.

    Raises:
        InputError: weights that do not fit, or a classifier at chance.
    """
    if scorer.weights is not None:
        size = scorer.resolution or train.resolution  # torchvision's own preparation would crop
        classifier = given_scorer(replace(scorer, resolution=size), train, normalization)
        classifier = classifier.to(accelerator.device)
    else:
        training = ScorerTraining(
            train, scorer, normalization=normalization, seed=seed, accelerator=accelerator
        )
        classifier = training.classifier
        facts = {
            "data": hash_samples(train.hashes, train.labels, train.class_names),
            "scorer": asdict(scorer),
            "normalization": normalization.facts(),
            "seed": seed,
            "precision": precision_of(accelerator),
        }
        path = folder / f"{fingerprint(facts)}.safetensors"
        if runtime.broadcast(accelerator, path.is_file()):
            state = runtime.main_first(accelerator, lambda: _kept_classifier(path))
            classifier.load_state_dict(state)
        else:
            epochs = training.run()
            for _ in progress(epochs, "classifier", total=scorer.epochs, unit=" epochs"):
                pass
            if accelerator.is_main_process:
                save_tensors(path, classifier.state_dict())
    classifier.eval().requires_grad_(False)
    accuracy = real_accuracy(classifier, test.images, test.labels, accelerator.device)
    advice = "train it for more prune.scorer.epochs, or check class order and normalisation"
    refuse_chance(accuracy, class_counts(test).tolist(), advice)
    return classifier, accuracy


@runtime.with_gradients
def trained_as_long(
    scorer: Scorer,
    few: Dataset,
    images: int,
    *,
    normalization: Plain,
    seed: int,
    accelerator: Accelerator,
) -> Classifier:
    """The network of `prune.scorer`, trained on few images for as many steps as on `images`."""
    steps = scorer.epochs * -(-images // scorer.batch)
    epochs = -(-steps // -(-len(few) // scorer.batch))
    settings = replace(scorer, epochs=epochs, infobatch=None)
    training = ScorerTraining(
        few, settings, normalization=normalization, seed=seed, accelerator=accelerator
    )
    for _ in training.run():
        pass
    return training.classifier.eval().requires_grad_(False)


def _kept_classifier(path: Path) -> State:
    try:
        return load_tensors(path)
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}); remove it to train this classifier again."
        ) from error


@torch.no_grad()
def real_accuracy(
    classifier: Callable[[Tensor], Tensor], images: Images, labels: Tensor, device: torch.device
) -> float:
    """Share of up to `CHECKED` real images (N, ...) that a classifier names rightly."""
    chosen = choose(len(labels), CHECKED, generator(0, "teacher check"))
    placed, right = place(images, device), 0
    for rows in chosen.split(256):
        logits = classifier(fetch(placed, rows, device))
        right += int((logits.argmax(dim=1).cpu() == labels[rows]).sum())
    return right / len(chosen)


def refuse_chance(accuracy: float, class_counts: Sequence[int], advice: str) -> None:
    """Refuse to score with a classifier that does hardly better than always naming one class.

    Args:
        accuracy: of the scorer, in [0, 1].
        class_counts: images of each class that it was measured on.
        advice: what to do about it.

    Raises:
        InputError: the scorer is at chance.
    """
    chance, least = least_accuracy(class_counts)
    if accuracy < least:
        raise InputError(
            f"the scorer is right on {accuracy:.2%} of the images and chance is {chance:.2%}, so "
            f"its losses say nothing (at least {least:.2%} is needed): {advice}."
        )


def least_accuracy(class_counts: Sequence[int]) -> tuple[float, float]:
    """The accuracy of always naming the largest class, and the least of a classifier to be used.

    A wrong class order or normalisation leaves a good classifier near the share of the largest
    class. It has to reach twice that share; with few classes, where twice would be too much to ask,
    a tenth of the way from it to 1 is enough.
    """
    chance = max(class_counts) / sum(class_counts)
    return chance, min(2 * chance, chance + 0.1 * (1 - chance))
