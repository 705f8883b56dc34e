"""What several processes tell each other about finished trainings."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch import distributed

from latentdc.evaluate.accuracy import Accuracy
from latentdc.evaluate.rows import Row, read_row

PATIENCE = timedelta(days=30)  # between the first process to finish and the last
Done = dict[Row, Accuracy]


def finished(wanted: Sequence[Row], folder: Path | None, accelerator: Accelerator) -> Done:
    """Rows that need no training: as the main process finds them, so that all agree."""
    found: Done = {}
    if folder is not None and accelerator.is_main_process:
        for row in wanted:
            value = read_row(folder, row)
            if value is not None:
                found[row] = value
    return gathered(found, accelerator)[0]


def gathered(part: Done, accelerator: Accelerator) -> list[Done]:
    """The parts of all processes, waited for however long the slowest one trains."""
    if accelerator.num_processes == 1:
        return [part]
    group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=PATIENCE))
    parts: list[Done] = [{} for _ in range(accelerator.num_processes)]
    distributed.all_gather_object(parts, part, group=group)
    distributed.destroy_process_group(group)
    return parts
