"""latentdc: dataset distillation through frozen latent diffusion models.

The public API, resolved on first use: importing latentdc does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__"]

if TYPE_CHECKING:
    pass

_HOME: dict[str, str] = {}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'latentdc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
