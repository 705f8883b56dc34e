"""What is measured of every image in one pass of a scorer over the data set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdc.prune.history import History
from latentdc.prune.predictions import Batch
from latentdc.prune.rules.aum import logit_margin
from latentdc.prune.rules.names import RULES

PREDICTED = "predicted"  # the class that the scorer says, as it ends


class Quantities:
    """The values behind the rules, batch by batch.

    Args:
        asked: rules that are wanted beside the free ones.
        history: predictions of one epoch ago, where a rule looks at their change.

    Attributes:
        averaged: names of values that are averaged over epochs, or of which all are recorded.
        last: names of values of the last epoch alone.
        embed: whether the batches need features.
    """

    def __init__(self, asked: Sequence[str], history: History | None = None) -> None:
        wanted = {name: rule for name, rule in RULES.items() if rule.free or name in asked}
        self.averaged = (
            *(name for name, rule in wanted.items() if rule.stage == "predictions"),
            "logit_margin",
            *(("change",) if history is not None else ()),
        )
        self.last = (*(n for n, rule in wanted.items() if rule.stage == "last"), PREDICTED)
        self.embed = any(
            "features" in rule.inputs and rule.stage in ("predictions", "last")
            for rule in wanted.values()
        )
        self._history = history

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of a call, in order."""
        return (*self.averaged, *self.last)

    def __call__(self, batch: Batch) -> Tensor:
        """(B, Q) float32."""
        return torch.stack([self._value(name, batch).float() for name in self.names], dim=1)

    def _value(self, name: str, batch: Batch) -> Tensor:
        if name == PREDICTED:
            return batch.logits.argmax(dim=1)
        if name == "logit_margin":
            return logit_margin(batch.logits, batch.labels)
        if name == "change":
            assert self._history is not None
            return self._history.change(batch)
        value: Tensor = RULES[name](vars(batch))
        return value
