"""Soft labels that were made with a set and lie with it (TESLA, DATM): they replace hard ones."""

import torch

from latentdc.evaluate.labelled import LabelledImages
from latentdc.evaluate.settings import Labels
from latentdc.evaluate.soft import Fixed


def brought_labels(labelled: LabelledImages, labels: Labels, device: torch.device) -> Fixed | None:
    """What students learn from the set's own logits (N, C), None where it brings none."""
    soft = getattr(labelled, "soft", None)
    return None if soft is None else Fixed(soft.to(device), labels)


def brought_facts(labelled: LabelledImages) -> dict[str, object]:
    """What they are and cost, in JSON's types; empty where there are none."""
    soft = getattr(labelled, "soft", None)
    return {} if soft is None else {"source": "brought", "label_bytes": soft.nbytes}
