"""Soft labels that were made with a set and lie with it (TESLA, DATM): they replace hard ones."""

import torch

from latentdc.errors import InputError
from latentdc.evaluate.label_settings import Labels
from latentdc.evaluate.labelled import LabelledImages
from latentdc.evaluate.soft import Fixed


def brought_labels(labelled: LabelledImages, labels: Labels, device: torch.device) -> Fixed | None:
    """What students learn from the set's own logits (N, C), None where it brings none."""
    soft = getattr(labelled, "soft", None)
    return None if soft is None else Fixed(soft.to(device), labels)


def require_own_losses(labelled: LabelledImages, infobatch: float | None, name: str) -> None:
    """Refuse InfoBatch for a set that brings soft labels.

    Raises:
        InputError: it does.
    """
    if infobatch is not None and getattr(labelled, "soft", None) is not None:
        raise InputError(
            f"the {name} set brings soft labels, and infobatch judges images by their hard ones; "
            "take protocol.infobatch=null."
        )


def brought_facts(labelled: LabelledImages) -> dict[str, object]:
    """What they are and cost, in JSON's types; empty where there are none."""
    soft = getattr(labelled, "soft", None)
    return {} if soft is None else {"source": "brought", "label_bytes": soft.nbytes}
