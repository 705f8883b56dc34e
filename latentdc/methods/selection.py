"""Selection: the best images of the core set stand for their class as they are.

With `prune.score=el2n` this is the first step of PCA (Xiao et al., "Unifying Dataset Pruning and
Distillation", https://arxiv.org/abs/2502.06434), which ranks the whole training set by EL2N,
smallest error first, and keeps the same number of each class; here by any rule.
"""

from typing import cast

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset, different_rows
from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.prune.select import Order, ranked
from latentdc.recipe.rules import RULES
from latentdc.synthetic.synthetic_set import SyntheticSet


def selection(
    coreset: Coreset, prior: Prior | None, settings: object, context: Context
) -> SyntheticSet:
    """The `context.ipc` best images of each class, whole.

    Raises:
        InputError: a class of the core set has fewer.
    """
    train = context.real_images()
    rows = best_rows(coreset, train, context.ipc).flatten()
    labels = torch.arange(train.num_classes).repeat_interleave(context.ipc)
    grid = 1 if train.kind == "images" else None
    return SyntheticSet(train.images[rows], labels, train.class_names, grid=grid)


def best_rows(coreset: Coreset, train: Dataset, count: int) -> Tensor:
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
    order = cast(Order, coreset.order)
    best = []
    for label, name in enumerate(train.class_names):
        members = (train.labels[rows] == label).nonzero().squeeze(1)
        if len(members) < count:
            raise InputError(
                f"the core set has {len(members)} images of class {name!r}, and the method takes "
                f"{count} different ones; bring a larger prune.coreset, or choose a smaller ipc or "
                "mosaic.grid."
            )
        best.append(rows[members[ranked(hardness[members], order)[:count]]])
    return torch.stack(best)
