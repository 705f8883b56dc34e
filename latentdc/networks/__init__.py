"""Students, teachers and scorers, each an embedding (`features`) and a linear classifier on it.

Importing this package does not import torch: recipe checks need `check_network` alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from latentdc.recipe.networks import check_network

if TYPE_CHECKING:
    from latentdc.networks.base import Network as Network
    from latentdc.networks.build import build_network as build_network
    from latentdc.networks.build import new_network as new_network

__all__ = ["Network", "build_network", "check_network", "new_network"]

_HOME = {
    "Network": "latentdc.networks.base",
    "build_network": "latentdc.networks.build",
    "new_network": "latentdc.networks.build",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
