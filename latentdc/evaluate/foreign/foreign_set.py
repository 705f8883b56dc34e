"""What readers of foreign sets return, and what they refuse."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.evaluate.foreign.numbers import Numbering
from latentdc.synthetic.synthetic_set import SyntheticSet

# A set in the class order of the test set, and how the numbers of its classes were read: None
# where it names them.
Read = tuple[SyntheticSet, Numbering | None]


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
