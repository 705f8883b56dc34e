"""What can be scored: any samples with labels and class names, told apart by a hash of contents."""

import hashlib
import json
from collections.abc import Sequence

from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import kind_of
from latentdc.synthetic.synthetic_set import SyntheticSet

_CHUNK = 1024  # images hashed at once, so that a memory-mapped set stays on disk


LabelledImages = SyntheticSet | Dataset


def set_hash(labelled: LabelledImages) -> str:
    """16 hex digits of images (type, size and bytes), labels and class names, in their order."""
    images = labelled.images
    digest = hashlib.sha256()
    digest.update(repr((str(images.dtype), tuple(images.shape), labelled.class_names)).encode())
    digest.update(_bytes(labelled.labels))
    if isinstance(labelled, SyntheticSet):
        for part in (labelled.soft_labels, labelled.weights):
            digest.update(b"" if part is None else _bytes(part))
    for start in range(0, len(images), _CHUNK):
        digest.update(_bytes(images[start : start + _CHUNK]))
    return digest.hexdigest()[:16]


def counts_hash(counts: Sequence[int] | None) -> str | None:
    """8 hex digits of the images of each class; None where all classes have as many."""
    if counts is None or len(set(counts)) < 2:
        return None
    return hashlib.sha256(json.dumps(list(counts)).encode()).hexdigest()[:8]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().numpy().tobytes()


def require_comparable(labelled: LabelledImages, test: LabelledImages, name: str) -> None:
    """Refuse an empty set, or one whose classes or size of samples are not those of the test set.

    Raises:
        InputError: says where they first differ.
    """
    for what, some in ((f"the {name} set", labelled), ("the test set", test)):
        if len(some.labels) == 0:
            raise InputError(f"{what} holds no {kind_of(some.images)}.")
    ours, theirs = labelled.class_names, test.class_names
    if len(ours) != len(theirs):
        raise InputError(
            f"the {name} set has {len(ours)} classes, the test set {len(theirs)}; name the same "
            "ones in the same order with data.classes=[...]."
        )
    for label, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            raise InputError(
                f"class {label} is {one!r} in the {name} set and {other!r} in the test set; both "
                "need the same classes in the same order (data.classes=[...])."
            )
    kind, wanted = kind_of(labelled.images), kind_of(test.images)
    if kind != wanted:
        raise InputError(
            f"the {name} set holds {kind}, and the test set {wanted}; open the data with "
            f"data.kind={kind}."
        )
    size, tested = labelled.images.shape[1:], test.images.shape[1:]
    if kind == "vectors" and size != tested:
        raise InputError(
            f"the {name} set has vectors of {size[0]} values, the test set {tested[0]}; extract "
            "both by the same network."
        )
    size, tested = size[-2:], tested[-2:]
    if size != tested:
        raise InputError(
            f"the {name} set has images of {size[0]}x{size[1]} px, the test set {tested[0]}x"
            f"{tested[1]}; open the test set with data.resolution={size[0]}."
        )
