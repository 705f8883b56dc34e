"""A score of every training image, by the loss of a scorer or by a draw."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.dataset import Dataset, class_counts
from latentdc.draws import generator
from latentdc.errors import RunError
from latentdc.images import Normalization
from latentdc.prune.check import refuse_chance
from latentdc.prune.classifier import Classifier
from latentdc.prune.loss import accuracy, cross_entropy_scores
from latentdc.prune.scorer import load_scorer, torchvision_scorer
from latentdc.prune.training import train_scorer
from latentdc.recipe import Scorer


def random_scores(hashes: Tensor, seed: int) -> Tensor:
    """(N,) numbers in [0, 1), the same for an image in every copy of the data set."""
    scores = torch.empty(len(hashes))
    draws = torch.rand(len(hashes), generator=generator(seed, "prune", "random"))
    scores[hashes.argsort(stable=True)] = draws
    return scores


def loss_scores(
    train: Dataset,
    test: Dataset,
    scorer: Scorer,
    *,
    normalization: Normalization,
    seed: int,
    accelerator: Accelerator,
) -> Tensor:
    """(N,) losses under given weights, or averaged over the epochs of a training on the spot.

    Averaged because a network that was trained to the end knows its own training images by heart.

    Raises:
        InputError: a scorer that cannot be had, does not fit, or is at chance on `test`.
        RunError: losses that are not finite.
    """
    normalization = Normalization(
        mean=scorer.mean or normalization.mean, std=scorer.std or normalization.std
    )
    if scorer.weights is not None:
        classifier = _given(scorer, train, normalization)
        _check(classifier, test, scorer, accelerator)
        scores = _losses(classifier, train, scorer, accelerator)
    else:
        epochs = train_scorer(
            train,
            network=scorer.network,
            epochs=scorer.epochs,
            lr=scorer.lr,
            batch=scorer.batch,
            resolution=scorer.resolution or train.resolution,
            normalization=normalization,
            seed=seed,
            accelerator=accelerator,
        )
        scores = torch.zeros(len(train))
        for classifier in epochs:
            scores += _losses(classifier, train, scorer, accelerator) / scorer.epochs
        _check(classifier, test, scorer, accelerator)
    return scores


def _losses(
    classifier: Classifier, train: Dataset, scorer: Scorer, accelerator: Accelerator
) -> Tensor:
    scores = cross_entropy_scores(classifier, train, batch=scorer.batch, accelerator=accelerator)
    if not bool(scores.isfinite().all()):
        raise RunError(
            f"the scorer {scorer.network} gives losses that are not finite; "
            "lower prune.scorer.lr, or take other weights."
        )
    return scores


def _given(scorer: Scorer, train: Dataset, normalization: Normalization) -> Classifier:
    assert scorer.weights is not None
    if scorer.weights == "torchvision":
        return torchvision_scorer(
            scorer.network,
            class_names=train.class_names,
            resolution=scorer.resolution,
            mean=scorer.mean,
            std=scorer.std,
        )
    return load_scorer(
        scorer.network,
        Path(scorer.weights),
        num_classes=train.num_classes,
        resolution=scorer.resolution or train.resolution,
        normalization=normalization,
    )


def _check(classifier: Classifier, test: Dataset, scorer: Scorer, accelerator: Accelerator) -> None:
    """Print the scorer's accuracy, and refuse one that is at chance."""
    right = accuracy(classifier, test, batch=scorer.batch, accelerator=accelerator)
    accelerator.print(f"scorer {scorer.network}: {right:.2%} right on {test.name}")
    advice = (
        "train it for more prune.scorer.epochs or with another prune.scorer.lr"
        if scorer.weights is None
        else "its class order or its normalisation (prune.scorer.mean, .std) is not the data set's"
    )
    refuse_chance(right, class_counts(test).tolist(), advice)
