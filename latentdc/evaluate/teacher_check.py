"""Whether teachers know the real images.

The commonest failure of soft labels is a teacher whose classes stand in another order than the
set's: its accuracy on real test images is at chance then, and nothing is trained.
"""

import torch
from torch import nn

from latentdc.device import fetch, place
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.evaluate.labelled import LabelledImages
from latentdc.prune.check import least_accuracy

CHECKED = 2000  # real test images, drawn by key, on which a teacher must beat chance


def real_accuracy(teachers: nn.Module, test: LabelledImages, device: torch.device) -> float:
    """Share of up to `CHECKED` real test images that the teachers name rightly together."""
    chosen = choose(len(test.labels), CHECKED, generator(0, "teacher check"))
    images, right = place(test.images, device), 0
    for rows in chosen.split(256):
        logits = teachers(fetch(images, rows, device))
        right += int((logits.argmax(dim=1).cpu() == test.labels[rows]).sum())
    return right / len(chosen)


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
