"""The first step of PCA: as many of the easiest images of each class as the mosaics take.

PCA ranks the whole training set by EL2N, smallest error first, and keeps the same number of each
class (https://arxiv.org/abs/2502.06434); here by any rule.
"""

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset, different_rows
from latentdc.errors import InputError
from latentdc.prune.coreset import Coreset
from latentdc.prune.select import Order, ranked
from latentdc.recipe.rules import RULES


def ranked_rows(coreset: Coreset, train: Dataset, count: int, order: Order) -> Tensor:
    """(C, count) positions in `train` of the core set's best images of each class, in rank order.

    Raises:
        InputError: a class of the core set has fewer.
    """
    rows = coreset.indices(train)
    rows = rows[different_rows(train.hashes[rows], train.labels[rows])]
    sign = -1.0 if coreset.rule in RULES and RULES[coreset.rule].hard == "low" else 1.0
    called = [coreset.class_names[label] for label in coreset.labels.tolist()]
    samples = zip(coreset.hashes.tolist(), called, strict=True)
    score = dict(zip(samples, (sign * coreset.scores).tolist(), strict=True))
    wanted = [train.class_names[label] for label in train.labels[rows].tolist()]
    hardness = torch.tensor(
        [score[sample] for sample in zip(train.hashes[rows].tolist(), wanted, strict=True)]
    )
    best = []
    for label, name in enumerate(train.class_names):
        members = (train.labels[rows] == label).nonzero().squeeze(1)
        if len(members) < count:
            raise InputError(
                f"the core set has {len(members)} images of class {name!r}, and the mosaics take "
                f"{count} different ones; bring a larger prune.coreset, or choose a smaller ipc or "
                "combine.grid."
            )
        best.append(rows[members[ranked(hardness[members], order)[:count]]])
    return torch.stack(best)
