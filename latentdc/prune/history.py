"""`History`: every image's prediction one epoch ago, for scores of how predictions change."""

import tempfile

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.io import reserve
from latentdc.prune.classifier import Classifier
from latentdc.prune.predictions import Batch, measure
from latentdc.prune.rules.tdds import change

_IN_MEMORY = 2**30  # bytes; more goes into an unnamed file


class History:
    """(N, C) log-probabilities in half precision; each process knows those that it measures."""

    def __init__(self, count: int, classes: int) -> None:
        shape = (count, classes)
        self._before: NDArray[np.float16]
        if 2 * count * classes <= _IN_MEMORY:
            self._before = np.zeros(shape, np.float16)
        else:
            file = tempfile.TemporaryFile()
            self._before = np.memmap(file, np.float16, "w+", shape=shape)
            reserve(file)

    def change(self, batch: Batch) -> Tensor:
        """(B,) change since the last call with these images; of the first one it means nothing."""
        rows = batch.rows.numpy()
        after = batch.logits.log_softmax(dim=1)
        before = torch.from_numpy(self._before[rows].astype(np.float32)).to(after.device)
        self._before[rows] = after.cpu().numpy().clip(-60000, 0)
        return change(before, after)

    def look(
        self, classifier: Classifier, dataset: Dataset, *, batch: int, accelerator: Accelerator
    ) -> None:
        """Note what a classifier says now, as `change` would have."""

        def remember(seen: Batch) -> Tensor:
            return self.change(seen).unsqueeze(1)

        for _ in measure(
            classifier, dataset, remember, width=1, batch=batch, accelerator=accelerator
        ):
            pass
