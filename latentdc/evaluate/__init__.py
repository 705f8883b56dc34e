"""One loop that trains students on any set of images and scores them on the real test set.

Importing this package does not import torch: recipe checks need `load_protocol` alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from latentdc.evaluate.loading import load_protocol
from latentdc.recipe.protocol import EvalProtocol

if TYPE_CHECKING:
    from latentdc.evaluate.jobs import evaluate as evaluate
    from latentdc.evaluate.score import Score as Score
    from latentdc.evaluate.scoring import score_table as score_table
    from latentdc.evaluate.table import Table as Table

__all__ = ["EvalProtocol", "Score", "Table", "evaluate", "load_protocol", "score_table"]

_HOME = {
    "Score": "latentdc.evaluate.score",
    "Table": "latentdc.evaluate.table",
    "evaluate": "latentdc.evaluate.jobs",
    "score_table": "latentdc.evaluate.scoring",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
