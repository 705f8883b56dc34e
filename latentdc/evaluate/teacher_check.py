"""Whether teachers know the real images, and what they make of the sets that they label.

The commonest failure of soft labels is a teacher whose classes stand in another order than the
set's: its accuracy on real test images is at chance then, and nothing is trained.
"""

import math

import torch
from torch import nn

from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.evaluate.labelled import LabelledImages
from latentdc.evaluate.view_logits import view_logits
from latentdc.images import fetch, place
from latentdc.prune.scorers import least_accuracy
from latentdc.recipe.protocol import EvalProtocol

CHECKED = 2000  # real test images, drawn by key, on which a teacher must beat chance
VIEWED = 500  # views of a set, about, on which they are compared with its labels


def real_accuracy(teachers: nn.Module, test: LabelledImages, device: torch.device) -> float:
    """Share of up to `CHECKED` real test images that the teachers name rightly together."""
    chosen = choose(len(test.labels), CHECKED, generator(0, "teacher check"))
    images, right = place(test.images, device), 0
    for rows in chosen.split(256):
        logits = teachers(fetch(images, rows, device))
        right += int((logits.argmax(dim=1).cpu() == test.labels[rows]).sum())
    return right / len(chosen)


def accuracy_on_views(
    teachers: nn.Module, labelled: LabelledImages, protocol: EvalProtocol, device: torch.device
) -> float:
    """Share of some views of a set that the teachers name as the set labels them.

    Views are crops and mixtures, harder than real images whole, and a mixture counts as the image
    whose row it is. Near chance, soft labels say nothing of the set's classes.
    """
    rows = choose(len(labelled.labels), VIEWED, generator(0, "teacher check"))
    epochs: list[int | None] = [None]
    if protocol.views.change and protocol.labels.source != "fixed":
        epochs = list(range(math.ceil(VIEWED / len(rows))))
    named = [
        view_logits(teachers, labelled, protocol.views, epoch, device=device, rows=rows)
        for epoch in epochs
    ]
    right = torch.stack(named).argmax(dim=-1) == labelled.labels[rows]
    return right.float().mean().item()


def require_knowledge(accuracy: float, test: LabelledImages, names: str) -> None:
    """Refuse teachers that are at chance on real images.

    Raises:
        InputError: says the accuracy, and what is likely wrong.
    """
    chance, least = least_accuracy(test.labels.bincount().tolist())
    if accuracy < least:
        raise InputError(
            f"the teacher {names} names {accuracy:.2%} of the real test images rightly; chance is "
            f"{chance:.2%}, at least {least:.2%} is needed. Either its classes stand in another "
            "order than the set's (data.classes), or its weights expect other images (mean, std, "
            "resolution), or it was trained here for too few epochs."
        )
