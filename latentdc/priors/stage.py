"""One resumable stage of training with averaged weights, shared by autoencoder and UNet."""

import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentdc.errors import InputError, RunError
from latentdc.io import writing
from latentdc.training import fit, moving_average


class Stage:
    """AdamW on a warm-up and cosine schedule, an EMA of the weights, and a state on disk.

    Args:
        module: what is trained.
        path: of the state; training continues from it.
        steps: number of updates.
        lr: peak learning rate.
        ema: decay of the averaged weights.
    """

    def __init__(self, module: nn.Module, path: Path, *, steps: int, lr: float, ema: float) -> None:
        self.module = module
        self.path = path
        self.steps = steps
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.01)
        warmup = max(1, min(500, steps // 20))
        self._lr = lambda step: (
            lr * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        )
        self.average = moving_average(module, lambda update: min(ema, 1 - (1 + update) ** -0.75))
        self.done = 0
        self.seconds = 0.0
        if path.is_file():
            self._load()

    def run(self, loss: Callable[[int], Tensor], *, every: int, title: str) -> None:
        """Train to the last step with `loss(step)`, saving each `every` steps; then average.

        Raises:
            RunError: the loss is no longer finite; the last state stays on disk.
        """
        bar = tqdm(total=self.steps, initial=self.done, desc=title, mininterval=5)
        began = time.perf_counter()
        trained = fit(
            self.module,
            range(self.done, self.steps),
            lambda _, step: loss(step),
            self.optimizer,
            lr=self._lr,
            clip=1.0,
        )
        for step, value in trained:
            self.average.update_parameters(self.module)
            self.done = step + 1
            bar.update()
            if self.done % every == 0 or self.done == self.steps:
                if not torch.isfinite(value):
                    raise RunError(f"the loss of {title} is {float(value)} at step {self.done}.")
                bar.set_postfix(loss=f"{float(value):.4f}")
                self.seconds += time.perf_counter() - began
                began = time.perf_counter()
                self._save()
        bar.close()
        self.module.load_state_dict(self.average.module.state_dict())

    def _save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "done": self.done,
            "seconds": self.seconds,
        }
        with writing(self.path) as part:
            torch.save(state, part)

    def _load(self) -> None:
        device = next(self.module.parameters()).device
        state = _read(self.path, device)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.done = state["done"]
        self.seconds = state["seconds"]


def _read(path: Path, device: torch.device) -> Any:
    """What `torch.save` wrote, whose zip file holds checksums that `torch.load` does not compare.

    Raises:
        InputError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if (broken := file.testzip()) is not None:
                raise ValueError(f"{broken} is not as it was written")
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise
        why = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise InputError(
            f"{path} is damaged ({why}); bring back a copy, or remove it to train this stage from "
            "the start."
        ) from error
