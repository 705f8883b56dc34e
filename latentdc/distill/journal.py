"""What a running distillation tells: a progress bar, `metrics.jsonl`, trackers, pictures.

Losses stay on their device until a flush, so that a step does not wait for one.
"""

import json
import os
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from latentdc.errors import RunError, everywhere

FLUSH_EVERY = 10  # steps


class Journal:
    """Records the loss of each step and stops the run on one that is not finite.

    Args:
        path: of `metrics.jsonl`; None writes no file.
        start: first step; lines of an earlier run from it on are removed.
        steps: last step.
        shared: whether every process holds the whole loss (scope `set`) or its share of it.
        accelerator: names the main process and the trackers.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        start: int,
        steps: int,
        shared: bool,
        accelerator: Accelerator,
    ) -> None:
        self.path = path if accelerator.is_main_process else None
        self.shared = shared
        self.accelerator = accelerator
        self.waiting: list[
            Tensor
        ] = []  # (1,) a loss, or (2,) with the share of real images left out
        self.rates: list[float | None] = []  # learned ones, of the steps that wait
        self.done = start
        self.began = time.perf_counter()
        if self.path is not None:
            _cut(self.path, start)
        self.bar = tqdm(
            total=steps,
            initial=start,
            desc="distil",
            disable=not accelerator.is_main_process,
            mininterval=1,
        )

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
        told = [loss] if trimmed is None else [loss, trimmed]
        self.waiting.append(torch.stack(told) / classes)
        self.rates.append(None if lr is None else float(lr))
        self.bar.update()
        if len(self.waiting) == FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            RunError: a loss is not finite; all processes raise it together.
        """
        if not self.waiting:
            return
        losses = torch.stack(self.waiting)
        if not self.shared:
            losses = self.accelerator.reduce(losses, "sum")
        values = losses.tolist()
        seconds = (time.perf_counter() - self.began) / len(values)
        lines = []
        for step, (told, lr) in enumerate(zip(values, self.rates, strict=True), start=self.done):
            value = told[0]
            if not _finite(value):
                raise diverged(f"the loss is {value} at step {step}")
            learned = {} if lr is None else {"learned_lr": lr}
            if len(told) == 2:
                learned["trimmed"] = round(told[1], 4)
            record = {"step": step, "loss": value, **learned, "seconds": round(seconds, 4)}
            lines.append(json.dumps(record) + "\n")
            if self.accelerator.trackers:
                shown = {"loss": value, **learned, "seconds_per_step": seconds}
                self.accelerator.log(shown, step=step)
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(lines)
        self.bar.set_postfix(loss=f"{values[-1][0]:.4g}")
        self.done += len(values)
        self.waiting.clear()
        self.rates.clear()
        self.began = time.perf_counter()

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


def diverged(what: str) -> RunError:
    """The end of a run whose numbers are no longer finite."""
    return everywhere(
        RunError(
            f"{what}; checkpoints from before are kept. Lower distill.lr_z or distill.lr_c, and "
            "give that run a folder of its own with output=..."
        )
    )


def _finite(value: float) -> bool:
    return value - value == 0


def _cut(path: Path, start: int) -> None:
    """Remove the lines of steps from `start` on, which will be computed again."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _step(line) < start]
    part = path.with_name(path.name + ".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, path)


def _step(line: str) -> float:
    """Step of a line; a line that a kill or a full disk cut short counts as later than all."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
