"""`prune_dataset`: from a training split to its core set."""

from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator

from latentdc.data.dataset import Dataset
from latentdc.images import Normalization
from latentdc.prune.coreset import Coreset
from latentdc.prune.scores import loss_scores, random_scores
from latentdc.prune.selection import select
from latentdc.recipe import Prune, Scorer


def prune_dataset(
    train: Dataset,
    test: Dataset | None = None,
    *,
    score: Literal["loss", "random"] = "loss",
    order: Literal["easy", "hard"] = "easy",
    keep: float = 1.0,
    scorer: Scorer | None = None,
    normalization: Normalization | None = None,
    seed: int = 0,
    accelerator: Accelerator | None = None,
) -> Coreset:
    """Choose the core set of a training split, class by class.

    Args:
        train: images to choose from.
        test: images on which the scorer must beat chance; None takes `train`. It chooses nothing.
        score: `loss` of a scorer, or `random`.
        order: keep the `easy` images, with the smallest scores, or the `hard` ones.
        keep: share of each class; 1 keeps everything and scores nothing.
        scorer: behind `loss`; None takes the default one, trained on the spot.
        normalization: of `train`; None takes ImageNet's.
        seed: of the random scores and of a scorer's training.
        accelerator: of this process; None makes one.

    Raises:
        InputError: a scorer that cannot be had, does not fit, or is at chance.
        RunError: losses that are not finite.
    """
    if keep == 1:
        rule, scores = "all", torch.zeros(len(train))
    elif score == "random":
        rule, scores = "random", random_scores(train.hashes, seed)
    else:
        rule = "loss"
        scores = loss_scores(
            train,
            test or train,
            scorer or Scorer(),
            normalization=normalization or Normalization(),
            seed=seed,
            accelerator=accelerator or Accelerator(),
        )
    chosen = select(scores, train.labels, keep=keep, order=order)
    return Coreset(
        hashes=train.hashes[chosen],
        scores=scores[chosen],
        labels=train.labels[chosen],
        class_names=train.class_names,
        rule=rule,
        order=order,
        keep=keep,
        dataset=train.name,
    )


def make_coreset(
    prune: Prune,
    train: Dataset,
    test: Dataset,
    *,
    normalization: Normalization,
    seed: int,
    accelerator: Accelerator,
) -> Coreset:
    """The core set that a recipe asks for: a saved one that fits `train`, or a new one.

    Raises:
        InputError: as `Coreset.load`, `Coreset.indices` and `prune_dataset`.
    """
    if prune.coreset is not None:
        return fitting(Path(prune.coreset), train)
    return prune_dataset(
        train,
        test,
        score=prune.score,
        order=prune.order,
        keep=prune.keep,
        scorer=prune.scorer,
        normalization=normalization,
        seed=seed,
        accelerator=accelerator,
    )


def fitting(path: Path, train: Dataset) -> Coreset:
    """A saved core set whose images are all in `train`.

    Raises:
        InputError: as `Coreset.load` and `Coreset.indices`.
    """
    saved = Coreset.load(path)
    saved.indices(train)
    return saved
