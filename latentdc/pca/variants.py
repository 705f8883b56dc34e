"""The sets that `latentdc pca` makes and how each is seen: PCA's ablation, and RDED beside it.

Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from latentdc.errors import InputError
from latentdc.recipe.fields import nearest


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        folder: of the set, in the run folder.
        confined: whether crops stay inside one cell.
    """

    folder: Literal["pruned", "synthetic", "rded"]
    confined: bool


VARIANTS = {
    "P": Variant("pruned", confined=False),
    "P+C": Variant("synthetic", confined=False),
    "P+C+A": Variant("synthetic", confined=True),
    "RDED": Variant("rded", confined=False),
    "RDED+A": Variant("rded", confined=True),
}


def chosen(names: Sequence[str]) -> dict[str, Variant]:
    """The variants of these names.

    Raises:
        InputError: unknown ones.
    """
    for name in names:
        if name not in VARIANTS:
            hint = nearest(name, VARIANTS)
            raise InputError(f"unknown variant {name!r}{hint}; known: {', '.join(VARIANTS)}.")
    return {name: VARIANTS[name] for name in VARIANTS if name in names}
