"""How far the increments of a set teach the same.

Chan-Santiago and Shah, "Learnability-Guided Diffusion for Dataset Distillation", CVPR 2026,
https://arxiv.org/abs/2604.00519: a set is cut into increments of some images of each class, a
student is trained on each, and tested on the others. The more it knows of them, the less they add.
"""

from dataclasses import replace
from typing import Any

import torch

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.setting import Setting, accuracy
from latentdc.evaluate.training import train_student
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet


def increments(one: SyntheticSet, each: int) -> list[SyntheticSet]:
    """The first `each` images of every class, the next ones, and so on; a shorter rest is left out.

    Raises:
        InputError: there are not two of them.
    """
    least = min(one.counts)
    if least < 2:
        raise InputError(
            "redundancy compares two increments or more, each of every class, and the smallest "
            f"class of the set has {least}; leave out --redundancy."
        )
    if not 1 <= each <= least // 2:
        raise InputError(
            f"increments of {each} images of each class, and the smallest class of the set has "
            f"{least}; two or more increments are compared, so take 1 to {least // 2}."
        )
    members = [(one.labels == label).nonzero().squeeze(1) for label in range(len(one.class_names))]
    starts = range(0, least // each * each, each)
    return [one.rows(torch.cat([rows[at : at + each] for rows in members])) for at in starts]


def redundancy(
    one: SyntheticSet, each: int, protocol: EvalProtocol, setting: Setting
) -> dict[str, Any]:
    """Accuracy of students of one increment on another: `matrix` [trained on][tested on], `mean`.

    The mean leaves out increments on which the student was trained. `each` counts the images of a
    class in an increment; the first student of the protocol, which has hard labels, is trained once
    on each.

    Raises:
        InputError: fewer than two increments.
    """
    parts = increments(one, each)
    protocol = protocol.resolve(len(parts[0]), len(one.class_names))
    tests = [
        Dataset(part.levels(), part.labels, part.class_names, torch.arange(len(part)), "increment")
        for part in parts
    ]
    matrix = []
    for part in parts:
        labelled = replace(part, soft_labels=None)
        network = train_student(labelled, protocol.students[0], protocol, setting, seed=0)
        matrix.append([accuracy(network, replace(setting, test=test)).top1 for test in tests])
    others = [row[k] for j, row in enumerate(matrix) for k in range(len(row)) if j != k]
    return {"each": each, "mean": sum(others) / len(others), "matrix": matrix}
