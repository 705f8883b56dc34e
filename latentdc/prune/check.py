"""Refusals: what a recipe says wrongly about pruning, and a scorer that knows nothing."""

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from latentdc.errors import InputError
from latentdc.recipe import Data, Prune
from latentdc.recipe.networks import check_network, pretrained
from latentdc.recipe.rules import RULES
from latentdc.recipe.vectors import refuse_image_keys

SCORES = (".parquet", ".csv", ".json", ".npy", ".npz")
FEATURES = (".npy", ".safetensors")


def check_prune(prune: Prune, data: Data) -> None:
    """Refuse a core set, network or weights that cannot be used. Imports no torch.

    Raises:
        InputError: a file that does not exist, an unknown network, or one too large for the images.
    """
    if prune.coreset is not None:
        _require_file(prune.coreset, "prune.coreset")
        return
    if prune.keeps_all and not prune.columns:
        return
    if prune.features is not None:
        _require_file(prune.features, "prune.features", FEATURES)
    if prune.scores is not None:
        _require_file(prune.scores, "prune.scores", SCORES)
        return
    scorer = prune.scorer
    if data.kind == "vectors":
        refuse_image_keys(scorer, ("mean", "std", "resolution"), "prune.scorer")
        if pretrained(scorer.weights) is not None:
            raise InputError(
                f"prune.scorer.weights={scorer.weights} classifies images, and data.kind is "
                "vectors; name a file, or leave it out to train the scorer."
            )
    scored = any(RULES[name].stage != "contents" for name in (prune.score, *prune.columns))
    if not scored or pretrained(scorer.weights) is not None:
        return
    check_network(scorer.network, scorer.resolution or data.size, data.kind)
    if scorer.weights is not None:
        _require_file(scorer.weights, "prune.scorer.weights")


def looked_at(prune: Prune, *, labels: bool) -> Prune:
    """What is scored to be looked at, even if the core set needs no scores.

    Args:
        prune: of the recipe.
        labels: whether likely label errors are asked for, which take a classifier.
    """
    return replace(prune, coreset=None, columns=[*prune.columns, "loss" if labels else prune.score])


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


def _require_file(name: str, key: str, suffixes: Sequence[str] = ()) -> None:
    if not Path(name).is_file():
        raise InputError(f"{key}: there is no file {name}.")
    if suffixes and Path(name).suffix not in suffixes:
        raise InputError(f"{key}: {name} is none of {', '.join(suffixes)}.")


def require_folder(folder: Path, key: str) -> None:
    """Refuse a folder that cannot be made or written to, before anything is scored.

    Raises:
        InputError: it, or the one that it would be made in, is a file or is closed to us.
    """
    place = folder.absolute()
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write to {folder}; name another folder with {key}.")


def require_plots() -> None:
    """Refuse a report that could not be drawn. Imports nothing.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError('a report needs matplotlib; install it with pip install ".[plots]".')
