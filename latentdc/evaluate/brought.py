"""Soft labels that were made with a set and lie with it (TESLA, DATM): they replace hard ones."""

import torch

from latentdc.errors import InputError
from latentdc.evaluate.soft import Fixed
from latentdc.recipe.labels import Labels
from latentdc.synthetic.synthetic_set import SyntheticSet


def brought_labels(labelled: SyntheticSet, labels: Labels, device: torch.device) -> Fixed | None:
    """What students learn from the set's own logits (N, C), None where it brings none."""
    soft = labelled.soft_labels
    return None if soft is None else Fixed(soft.to(device), labels)


def require_own_losses(labelled: SyntheticSet, infobatch: float | None, name: str) -> None:
    """Refuse InfoBatch for a set with soft labels, and a set with weights, which none uses.

    Raises:
        InputError: it has them.
    """
    if labelled.weights is not None:
        raise InputError(
            f"the {name} set weighs its images, and students are trained on images that all weigh "
            "the same; leave its weights out (dataclasses.replace(set, weights=None))."
        )
    if infobatch is not None and labelled.soft_labels is not None:
        raise InputError(
            f"the {name} set has soft labels, and infobatch judges images by their hard ones; "
            "take protocol.infobatch=null."
        )


def brought_facts(labelled: SyntheticSet) -> dict[str, object]:
    """What they are and cost, in JSON's types; empty where there are none."""
    soft = labelled.soft_labels
    return {} if soft is None else {"source": "brought", "label_bytes": soft.nbytes}
