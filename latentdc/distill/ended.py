"""The images of a run that had ended before, to be taken in place of decoding its latents again.

Other processes, threads or chunks would round some pixels otherwise, and so make another set of the
one that has been scored or pushed.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.folder import is_set

SET = "synthetic"  # folder of the set in that of its run
PARTS = ("images", "labels", "z", "c", "noise")
FACTS = ("prior_hash", "steps")  # of the provenance, which latents do not tell


def ended_images(
    folder: Path,
    parts: Mapping[str, Tensor | None],
    labels: Tensor,
    provenance: Mapping[str, object],
) -> Tensor | None:
    """Images of the set in a run folder, if it is the one that the run ends with.

    Args:
        folder: of the run.
        parts: z, c and noise of all classes, with which the run ends; None where there is none.
        labels: (N,) theirs.
        provenance: of the run.

    Returns:
        None where there is no set, a damaged one, or one of other latents, prior or steps.
    """
    kept = kept_set(folder)
    if kept is None:
        return None
    known = all(
        name in provenance and kept.provenance.get(name) == provenance[name] for name in FACTS
    )
    alike = (_same(getattr(kept, name), part) for name, part in parts.items())
    return kept.images[:] if known and torch.equal(kept.labels, labels) and all(alike) else None


def kept_set(folder: Path) -> SyntheticSet | None:
    """The set in a run folder; None where there is none, or a damaged one."""
    try:
        return SyntheticSet.from_pretrained(folder / SET) if is_set(folder / SET) else None
    except InputError:
        return None


def same_samples(one: SyntheticSet, other: SyntheticSet) -> bool:
    """Whether students would see the same in both, and the latents behind it are the same."""
    facts = [None if s.whitening is None else s.whitening.facts() for s in (one, other)]
    alike = (_same(getattr(one, part), getattr(other, part)) for part in PARTS)
    same = ("class_names", "learned_lr", "grid")
    return (
        facts[0] == facts[1]
        and all(getattr(one, name) == getattr(other, name) for name in same)
        and all(alike)
    )


def _same(stored: Tensor | None, part: Tensor | None) -> bool:
    if stored is None or part is None:
        return stored is part
    return stored.dtype == part.dtype and torch.equal(stored, part.cpu())
