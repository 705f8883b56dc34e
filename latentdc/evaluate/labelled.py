"""Either kind of labelled set."""

from collections.abc import Sequence

from latentdc.data.dataset import Dataset
from latentdc.evaluate.sets import require_comparable as require_comparable
from latentdc.io import fingerprint
from latentdc.synthetic.synthetic_set import SyntheticSet
from latentdc.synthetic.synthetic_set import set_hash as set_hash

LabelledImages = SyntheticSet | Dataset


def counts_hash(counts: Sequence[int] | None) -> str | None:
    """8 hex digits of the images of each class; None where all classes have as many."""
    if counts is None or len(set(counts)) < 2:
        return None
    return fingerprint(list(counts), digits=8)
