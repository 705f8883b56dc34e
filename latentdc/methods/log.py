"""What a running method tells of its steps: a progress bar, and measures for its caller.

Losses stay on their device until a flush, so that a step does not wait for one.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.errors import RunError, Stopped, everywhere
from latentdc.ranks import progress

_FLUSH_EVERY = 10  # steps


class StepLog:
    """Collects the loss of each step and stops the run on one that is not finite.

    Args:
        start: first step.
        steps: last step.
        shared: whether every process holds the whole loss (scope `set`) or its share of it.
        accelerator: of this process.
        on_step: is told the measures of each step.
        lrs: learning rates by their names, the same in every step.
        advice: what to do where a loss is not finite.
    """

    def __init__(
        self,
        *,
        start: int,
        steps: int,
        shared: bool,
        accelerator: Accelerator,
        on_step: Callable[[Mapping[str, Any]], None] | None = None,
        lrs: Mapping[str, float],
        advice: str,
    ) -> None:
        self.shared = shared
        self.accelerator = accelerator
        self.on_step = on_step
        self.lrs = lrs
        self.advice = advice
        # (1,) a loss, or (2,) with the share of real images left out
        self.waiting: list[Tensor] = []
        self.rates: list[float | None] = []  # learned ones, of the steps that wait
        self.done = start
        self.began = time.perf_counter()
        self.bar = progress(None, "distil", total=steps, initial=start, unit=" steps")

    def record(
        self,
        loss: Tensor,
        *,
        classes: int = 1,
        lr: Tensor | None = None,
        trimmed: Tensor | None = None,
    ) -> None:
        """Note the loss of the next step, a sum over `classes`, per class; and a learned lr.

        `trimmed` is a sum over them too: the shares of real batches that were left out.
        """
        measures = [loss] if trimmed is None else [loss, trimmed]
        self.waiting.append(torch.stack(measures) / classes)
        self.rates.append(None if lr is None else float(lr))
        self.bar.update()
        if len(self.waiting) == _FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Tell what waits; all processes stop together on a loss that is not finite."""
        if not self.waiting:
            return
        measures = torch.stack(self.waiting)
        if not self.shared:
            measures = self.accelerator.reduce(measures, "sum")
        values = measures.tolist()
        seconds = round((time.perf_counter() - self.began) / len(values), 4)
        for step, (told, lr) in enumerate(zip(values, self.rates, strict=True), start=self.done):
            if not math.isfinite(told[0]):
                raise diverged(f"the loss is {told[0]} at step {step}", self.advice)
            found: dict[str, Any] = {"step": step, "loss": told[0], **self.lrs}
            if lr is not None:
                found["learned_lr"] = lr
            if len(told) == 2:
                found["trimmed"] = round(told[1], 4)
            if self.on_step is not None:
                self.on_step({**found, "seconds": seconds})
        self.bar.set_postfix(loss=f"{values[-1][0]:.4g}", refresh=False)
        self.done += len(values)
        self.waiting.clear()
        self.rates.clear()
        self.began = time.perf_counter()

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


def stopped(done: str) -> Stopped:
    """The end of a run that was asked to end, after what is `done` and kept."""
    return everywhere(
        Stopped(
            f"stopped by SIGTERM after {done} kept; start the run again to go on, on any number of "
            "processes."
        )
    )


def diverged(what: str, advice: str) -> RunError:
    """The end of a run whose numbers are no longer finite."""
    return everywhere(
        RunError(
            f"{what}; checkpoints from before are kept. {advice}, and give that run a folder of "
            "its own with output=..."
        )
    )
