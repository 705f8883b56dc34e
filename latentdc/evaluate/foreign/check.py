"""Whether the class numbers of foreign sets fit their images, before students are trained on them.

A network that knows the real images (see `judge`) names some images of each set, and every reading
of the numbers is held against that (see `fit`). Soft labels are left alone: they say more than a
class.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.device import fetch
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.evaluate.foreign.fit import (
    beyond_chance,
    clearly_better,
    exchanged,
    mostly_exchanged,
    right,
)
from latentdc.evaluate.foreign.foreign_set import Read
from latentdc.evaluate.foreign.numbers import Numbering, classes_advice
from latentdc.evaluate.foreign.say import warn
from latentdc.evaluate.labelled import require_comparable
from latentdc.prune.scorers import Classifier
from latentdc.synthetic.synthetic_set import SyntheticSet

LOOKED_AT = 2000  # images of a set, drawn by key
BATCH = 256

Judge = tuple[str, Classifier]  # what messages call it, and the network


def check_numbers(
    sets: Mapping[str, Read],
    test: Dataset,
    judge: Callable[[], Judge | None],
    device: torch.device,
) -> None:
    """Refuse sets whose images fit another reading of their class numbers clearly better.

    Args:
        sets: by the names of their rows; those without numbers are passed over.
        test: real images.
        judge: gives the network, or None where there is no good one; called where it is needed.
        device: for the network.

    Raises:
        InputError: names the reading that fits, and what to say to have it. Where the user has
            said what the numbers are, that is a warning.
    """
    numbered = {
        name: (one, numbering)
        for name, (one, numbering) in sets.items()
        if numbering is not None and one.soft_labels is None
    }
    for name, (one, _) in numbered.items():
        require_comparable(one, test, name)
    if not numbered:
        return
    known = judge()
    if known is None:
        warn(
            f"whether the class numbers of {', '.join(numbered)} fit the images cannot be told: no "
            "network that is here names the real test images beyond chance."
        )
        return
    for name, (one, numbering) in numbered.items():
        _check(name, one, numbering, known, device)


def _check(
    name: str, one: SyntheticSet, numbering: Numbering, judge: Judge, device: torch.device
) -> None:
    called, network = judge
    rows = choose(len(one.labels), LOOKED_AT, generator(0, "numbers"))
    labels, named = one.labels[rows], _named(one, rows, network, device)
    classes, hits = len(one.class_names), right(named, labels)
    tables = {what: torch.tensor(other) for what, other in numbering.others.items()}
    better = {what: t for what, t in tables.items() if clearly_better(named, labels, t)}
    found = f"{called} names {hits:,} of {len(rows):,} images of {name} as their class numbers do"
    if better:
        what = max(better, key=lambda w: right(named, better[w][labels]))
        text = (
            f"{found}, read as {numbering.what}, and {right(named, better[what][labels]):,} if the "
            f"numbers are {what}"
        )
        if not numbering.given:
            raise InputError(
                f"{text}. For that say {numbering.advice[what]}; to keep the reading, "
                f"--numbers {_plain(numbering.what)}."
            )
        warn(f"{text}; they are read as was said.")
        return
    if (order := exchanged(named, labels, classes)) is not None:
        moved = (order != torch.arange(classes)).nonzero().flatten().tolist()
        pairs = ", ".join(f"{one.class_names[k]} as {one.class_names[order[k]]}" for k in moved[:3])
        text = (
            f"{found}; it mostly names {pairs}{', ...' if len(moved) > 3 else ''}, as if the "
            "numbers counted the classes in another order: compare with the set's class list "
            f"({classes_advice([one.class_names[k] for k in order])})"
        )
        if not numbering.given and mostly_exchanged(order, labels):
            raise InputError(f"{text}; to keep the reading, --numbers {_plain(numbering.what)}.")
        warn(f"{text}.")
    elif not beyond_chance(named, labels, classes):
        best = max(tables, key=lambda w: right(named, tables[w][labels]), default="")
        most = right(named, tables[best][labels]) if best else 0
        others = f" (the best, {best}: {most:,})" if most > hits else ""
        warn(
            f"{found}, which is not beyond chance ({1 / classes:.1%}), and no other reading that "
            f"is known fits clearly better{others}: the classes may stand in another order "
            "(data.classes), or the images do not look real."
        )


def _plain(what: str) -> str:
    return what if what == "names" else "positions"


@torch.no_grad()
def _named(one: SyntheticSet, rows: Tensor, network: Classifier, device: torch.device) -> Tensor:
    """(n,) classes that the network names."""
    network.to(device).eval()
    parts = [network(fetch(one.images, some, device)).argmax(dim=1) for some in rows.split(BATCH)]
    return torch.cat(parts).cpu()
