"""`Look`: measure every image under one state of a scorer, and note it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import RunError
from latentdc.prune.classifier import Classifier
from latentdc.prune.predictions import Batch, measure
from latentdc.prune.quantities import Quantities
from latentdc.prune.records import Records, array_file


@dataclass(frozen=True)
class Look:
    """Where the values of one training go.

    Attributes:
        dataset: images to look at.
        quantities: what to measure.
        records: of the main process; None on the others.
        embeddings: (N, D) float16 for the features of the last look; None where they are not
            wanted, and on the other processes.
        width: D, 0 where they are not wanted.
        batch: images in one forward pass.
        accelerator: device, precision and processes.
        trained: whether these are the epochs of a training.
    """

    dataset: Dataset
    quantities: Quantities
    records: Records | None
    embeddings: NDArray[np.float16] | None
    width: int
    batch: int
    accelerator: Accelerator
    trained: bool

    def take(
        self,
        classifier: Classifier,
        *,
        epoch: int = 0,
        last: bool = True,
        start: int = 0,
        after_block: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Measure and note.

        Args:
            classifier: the scorer.
            epoch: row of the records.
            last: whether to keep features.
            start: images that were noted before.
            after_block: told now and then how many images are noted, and are on the disk.

        Raises:
            RunError: values that are not finite.
        """
        width, own = self.width if last else 0, len(self.quantities.names)

        def values(batch: Batch) -> Tensor:
            measured = self.quantities(batch)
            return torch.cat([measured, batch.features], dim=1) if width else measured

        for first, block in measure(
            classifier,
            self.dataset,
            values,
            width=own + width,
            batch=self.batch,
            accelerator=self.accelerator,
            start=start,
            embed=self.quantities.embed or width > 0,
        ):
            if not bool(block.isfinite().all()):
                raise RunError(
                    "the scorer gives losses that are not finite; lower prune.scorer.lr, or take "
                    "other weights."
                )
            if self.records is not None:
                self.records.put(epoch, first, block[:, :own])
                if self.embeddings is not None and width:
                    rows = slice(first, first + len(block))
                    self.embeddings[rows] = block[:, own:].numpy().clip(-65504, 65504)
                self.records.flush()
            after_block(first + len(block))


def new_look(
    dataset: Dataset,
    quantities: Quantities,
    *,
    epochs: int,
    width: int,
    folder: Path | None,
    keep: bool,
    batch: int,
    accelerator: Accelerator,
    trained: bool,
) -> Look:
    """A look whose records and features lie in a folder, or in memory.

    Args:
        dataset: images to look at.
        quantities: what to measure.
        epochs: how often.
        width: of the features; 0 where they are not wanted.
        folder: for the records; of the main process.
        keep: whether to go on with the files in it.
        batch: images in one forward pass.
        accelerator: device, precision and processes.
        trained: whether these are the epochs of a training.
    """
    records, embeddings, count = None, None, len(dataset)
    if accelerator.is_main_process:
        records = Records(
            folder,
            epochs=epochs,
            count=count,
            averaged=quantities.averaged,
            last=quantities.last,
            keep=keep,
        )
        if width:
            embeddings = array_file(folder, "features", (count, width), "<f2", keep)
    return Look(
        dataset, quantities, records, embeddings, width, batch, accelerator, trained=trained
    )
