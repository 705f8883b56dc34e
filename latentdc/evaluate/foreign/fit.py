"""Which reading of a set's class numbers fits what a network sees in its images.

A network that knows the real images names each image of the set. Under the right reading it names
more of them as they are labelled than under a wrong one, as far as the images look real.

Two readings are compared by sign tests, as paired data are: what both name rightly or wrongly says
nothing, and of the rest half would speak for each, were they equally good. Images of one class are
alike, so the classes are counted first, each for the reading under which more of its images are
named rightly. The other reading is *clearly better* if that many votes for it have a probability
below `SURE`; or, for readings that differ in a few classes, if more than half of these vote for it
and as many single images have such a probability.

A reading is *beyond chance* if, with a probability below `SURE`, a network that always says the
largest class, or one that says any class of each class, would do as well: by images, and by
classes for which the right name is the commonest, unless these are more than half.
"""

from collections import Counter

import torch
from scipy.stats import binom  # type: ignore[import-untyped]  # scipy comes with scikit-learn
from torch import Tensor

SURE = 0.01


def right(named: Tensor, labels: Tensor) -> int:
    """Images that are named as they are labelled."""
    return int((named == labels).sum())


def clearly_better(named: Tensor, labels: Tensor, other: Tensor) -> bool:
    """Whether `other` fits what is named clearly better than the labels do.

    Args:
        named: (N,) classes, as the network names the images.
        labels: (N,) classes.
        other: (C,) the class that another reading gives to each class.
    """
    for_other = (named == other[labels]).long()
    against = (named == labels).long()
    balance = for_other - against  # of each image
    by_class = torch.zeros(len(other), dtype=torch.long).index_add(0, labels, balance).sign()
    votes, disputed = int((by_class > 0).sum()), int((other != torch.arange(len(other))).sum())
    if _tail(votes, int(by_class.abs().sum()), 0.5) < SURE:
        return True
    images = _tail(int((balance > 0).sum()), int(balance.abs().sum()), 0.5)
    return 2 * votes > disputed and images < SURE


def beyond_chance(named: Tensor, labels: Tensor, classes: int) -> bool:
    """Whether more images and classes are named as they are labelled than chance would have it."""
    hits, counts = right(named, labels), labels.bincount(minlength=classes)
    if hits == len(labels):
        return True
    most = int(counts.max()) / len(labels)
    found = int((_commonest(named, labels, classes) == torch.arange(classes)).sum())
    seen = int((counts > 0).sum())
    by_class = 2 * found > seen or _tail(found, seen, 1 / classes) < SURE
    return by_class and _tail(hits, len(labels), most) < SURE


def exchanged(named: Tensor, labels: Tensor, classes: int) -> Tensor | None:
    """(C,) the commonest name of each class, if these are the classes in another order.

    None where they are not, or where that order is not clearly better.
    """
    commonest, order = _commonest(named, labels, classes), torch.arange(classes)
    if not torch.equal(commonest.sort().values, order) or torch.equal(commonest, order):
        return None
    return commonest if clearly_better(named, labels, commonest) else None


def mostly_exchanged(order: Tensor, labels: Tensor) -> bool:
    """Whether an order moves more than half of the classes, seen in two images of each or more."""
    classes = len(order)
    return 2 * int((order != torch.arange(classes)).sum()) > classes <= len(labels) / 2


def _commonest(named: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C,) the name that most images of each class have, the lower of equals; -1 without any."""
    found = torch.full((classes,), -1)
    pairs = Counter(zip(labels.tolist(), named.tolist(), strict=True))
    for (label, name), _ in sorted(pairs.items(), key=lambda pair: (pair[1], -pair[0][1])):
        found[label] = name  # the last one stays
    return found


def _tail(hits: int, trials: int, share: float) -> float:
    """Probability of at least so many hits, by chance."""
    return float(binom.sf(hits - 1, trials, share)) if trials else 1.0
