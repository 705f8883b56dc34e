"""Whether scores that name no images can be in the order of the data set, as far as they show it.

In the right order scores differ between classes, which have other difficulties, and inside classes
they go with a scorer's losses; in any other order both are chance. Both are tested on ranks: by
one-way analysis of variance (Kruskal and Wallis, 1952) and by Spearman's correlation.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.prune.agreement import ranks
from latentdc.prune.select import class_rows
from latentdc.ranks import say

CHANCE = 0.01  # a list is warned about if a shuffled one would depend as much with this probability
IMAGES, CLASSES = 1000, 5  # below which right orders often show no difference between classes
WITH_LOSSES = 100  # images from which on losses tell


def tell(
    scores: Mapping[str, Tensor], train: Dataset, path: Path, losses: Tensor | None = None
) -> None:
    """Say on the main process that an order is taken on trust, and whether it looks wrong.

    Losses decide where they are given, for they show a wrong order inside classes too.

    Args:
        scores: (N,) columns of one file.
        train: the images.
        path: of the file, for the message.
        losses: (N,) a scorer's losses of these images, None where there are none.
    """
    say(
        "note",
        f"{path.name} does not say which image each score is of, so the order of {train.name} is "
        "taken on trust; a column `hash` or, where classes are mixed, `label` would be compared.",
    )
    if losses is not None and len(train) >= WITH_LOSSES:
        chance = min(loss_chance(column, losses, train.labels) for column in scores.values())
        shown = "on the scorer's losses inside classes"
    elif len(train) >= IMAGES and train.num_classes >= CLASSES:
        chance = min(class_chance(column, train.labels) for column in scores.values())
        shown = "on the class"
    else:
        return
    if chance > CHANCE / len(scores):
        say(
            "warning",
            f"the scores in {path.name} depend no more {shown} than shuffled ones would (p = "
            f"{chance:.2g}): they are likely in another order than {train.name}, so that the core "
            "set would be random.",
        )


def tell_features(path: Path, train: Dataset) -> None:
    """Say that the order of a file of features is taken on trust."""
    say(
        "note",
        f"{path.name} does not say which image each row is of, so the order of {train.name} is "
        "taken on trust.",
    )


def class_chance(scores: Tensor, labels: Tensor) -> float:
    """Probability of so large a difference between classes, if the order were random."""
    from sklearn.feature_selection import f_classif  # takes a second

    if len(scores.unique()) == 1 or len(labels.unique()) == 1:
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(f_classif(ranks(scores)[:, None].numpy(), labels.numpy())[1][0])


def loss_chance(scores: Tensor, losses: Tensor, labels: Tensor) -> float:
    """Probability of so strong a correlation inside classes, if the order were random."""
    inside = torch.zeros(2, len(labels), dtype=torch.float64)
    classes = [rows for rows in class_rows(labels) if len(rows) > 1]
    for rows in classes:
        for column, values in zip(inside, (scores, losses), strict=True):
            column[rows] = (ranks(values[rows]) - (len(rows) + 1) / 2) / len(rows)
    if bool((inside == 0).all(dim=1).any()):
        return 1.0
    freedom = sum(len(rows) - 1 for rows in classes)
    z = torch.corrcoef(inside)[0, 1].abs() * freedom**0.5  # standard normal if the order is random
    return float(torch.special.erfc(z / 2**0.5))
