"""Synthetic sets: one folder on disk is one data set repo on the Hub.

`SyntheticSet` is resolved on first use, so that the commands answer before torch is imported.
"""

from typing import TYPE_CHECKING

__all__ = ["SyntheticSet"]

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet


def __getattr__(name: str) -> object:
    if name == "SyntheticSet":
        from latentdc.synthetic.synthetic_set import SyntheticSet

        return SyntheticSet
    raise AttributeError(f"module 'latentdc.synthetic' has no attribute {name!r}")
