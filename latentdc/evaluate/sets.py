"""What evaluation asks of a set before students are trained on it, and how a protocol sees it.

Mosaics show several pictures in a grid. A crop inside one cell is the third step of PCA
(https://arxiv.org/abs/2502.06434). It is defined by the grid of a mosaic, so that sets that know
their grid are seen by no other, and single images, which have no cells, are cropped as a whole.
"""

from collections.abc import Sequence
from dataclasses import replace

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import kind_of
from latentdc.io import fingerprint
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet


def require_comparable(one: SyntheticSet | Dataset, test: Dataset, name: str) -> None:
    """Refuse an empty set, or one whose classes or size of samples are not those of the test set.

    Raises:
        InputError: says where they first differ.
    """
    for what, some in ((f"the {name} set", one), ("the test set", test)):
        if len(some.labels) == 0:
            raise InputError(f"{what} holds no {kind_of(some.images)}.")
    ours, theirs = one.class_names, test.class_names
    if len(ours) != len(theirs):
        raise InputError(
            f"the {name} set has {len(ours)} classes, the test set {len(theirs)}; name the same "
            "ones in the same order with data.classes=[...]."
        )
    for label, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other:
            raise InputError(
                f"class {label} is {mine!r} in the {name} set and {other!r} in the test set; both "
                "need the same classes in the same order (data.classes=[...])."
            )
    kind, wanted = kind_of(one.images), kind_of(test.images)
    if kind != wanted:
        raise InputError(
            f"the {name} set holds {kind}, and the test set {wanted}; open the data with "
            f"data.kind={kind}."
        )
    size, tested = one.images.shape[-1], test.images.shape[-1]
    if kind == "vectors" and size != tested:
        raise InputError(
            f"the {name} set has vectors of {size} values, the test set {tested}; extract both by "
            "the same network."
        )
    if size != tested:
        raise InputError(
            f"the {name} set has images of {size}x{size} px, the test set {tested}x{tested}; open "
            f"the test set with data.resolution={size}."
        )


def require_trainable(one: SyntheticSet, protocol: EvalProtocol, name: str) -> None:
    """Refuse a set whose grid, soft labels or weights the protocol cannot train on.

    Raises:
        InputError: mosaics of another grid than the protocol's cells, soft labels under InfoBatch,
            which judges images by their hard ones, or weights beside InfoBatch's own.
    """
    cells = protocol.views.cells
    if cells is not None and one.grid not in (None, 1, cells):
        raise InputError(
            f"the {name} set has mosaics of {one.grid} x {one.grid} and the protocol crops in "
            f"cells of {cells} x {cells}; set protocol.views.cells={one.grid}, or null to crop "
            "from whole mosaics."
        )
    if protocol.infobatch is not None and one.soft_labels is not None:
        raise InputError(
            f"the {name} set has soft labels, and infobatch judges images by their hard ones; "
            "take protocol.infobatch=null."
        )
    if protocol.infobatch is not None and one.weights is not None:
        raise InputError(
            f"the {name} set weighs its images, and infobatch has weights of its own; take "
            "protocol.infobatch=null."
        )


def protocol_for(protocol: EvalProtocol, one: SyntheticSet) -> EvalProtocol:
    """The protocol as a set meets it, with a hash of its own: single images have no cells."""
    if protocol.views.cells is None or one.grid != 1:
        return protocol
    return replace(protocol, views=replace(protocol.views, cells=None))


def counts_hash(counts: Sequence[int]) -> str | None:
    """8 hex digits of the images of each class; None where all classes have as many."""
    return fingerprint(list(counts), digits=8) if len(set(counts)) > 1 else None
