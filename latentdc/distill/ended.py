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
    if not is_set(folder / SET):
        return None
    try:
        kept = SyntheticSet.from_pretrained(folder / SET)
    except InputError:
        return None
    known = all(
        name in provenance and kept.provenance.get(name) == provenance[name] for name in FACTS
    )
    alike = (_same(getattr(kept, name), part) for name, part in parts.items())
    return kept.images if known and torch.equal(kept.labels, labels) and all(alike) else None


def _same(stored: Tensor | None, part: Tensor | None) -> bool:
    if stored is None or part is None:
        return stored is part
    return torch.equal(stored, part)
