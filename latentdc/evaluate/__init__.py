"""One loop that trains students on any set of images and scores them on the real test set.

Importing this package does not import torch: recipe checks need `load_protocol` alone.
"""

from latentdc.evaluate.loading import load_protocol
from latentdc.recipe.protocol import EvalProtocol

__all__ = ["EvalProtocol", "load_protocol"]
