"""`ForeignSet`: what students need of a set that others made, and what is refused of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.evaluate.foreign.numbers import Numbering


@dataclass(frozen=True, eq=False)
class ForeignSet:
    """Labelled images in the class order of the test set.

    Attributes:
        images: (N, 3, H, W) uint8, or float32 in the scale of [-1, 1].
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
        soft: (N, C) logits that were made with the images, in place of hard labels.
        learned_lr: learning rate that was learned with them.
        numbering: how the numbers of its classes were read; None where it names them.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    soft: Tensor | None = None
    learned_lr: float | None = None
    numbering: Numbering | None = None

    def first_of_each(self, ipc: int) -> "ForeignSet":
        """The first `ipc` images of each class, in their order."""
        seen, kept = [0] * len(self.class_names), []
        for row, label in enumerate(self.labels.tolist()):
            seen[label] += 1
            if seen[label] <= ipc:
                kept.append(row)
        soft = None if self.soft is None else self.soft[kept]
        return replace(self, images=self.images[kept], labels=self.labels[kept], soft=soft)


def require_classes(labels: Tensor, class_names: Sequence[str], source: str) -> None:
    """Refuse labels that leave classes out or go beyond them.

    Raises:
        InputError: says which.
    """
    classes = len(class_names)
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        got = f"{int(labels.min())} to {int(labels.max())}" if len(labels) else "none at all"
        raise InputError(
            f"{source} has labels {got}, and the test set's {classes} classes are 0 to "
            f"{classes - 1}; open the data that it was made from (data.source, data.subset)."
        )
    counts = torch.bincount(labels, minlength=classes).tolist()
    if empty := [name for name, count in zip(class_names, counts, strict=True) if not count]:
        raise InputError(
            f"{source} has no images of {len(empty)} of the test set's {classes} classes: "
            f"{', '.join(empty[:10])}; name the ones that it has with data.classes=[...]."
        )
