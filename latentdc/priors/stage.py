"""One resumable stage of training with averaged weights, shared by autoencoder and UNet."""

import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentdc.errors import InputError, RunError
from latentdc.io import sync


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
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps))),
        )
        self.average = EMAModel(module.parameters(), decay=ema, use_ema_warmup=True, power=0.75)
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
        while self.done < self.steps:
            value = loss(self.done)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.average.step(self.module.parameters())
            self.done += 1
            bar.update()
            if self.done % every == 0 or self.done == self.steps:
                if not torch.isfinite(value):
                    raise RunError(f"the loss of {title} is {float(value)} at step {self.done}.")
                bar.set_postfix(loss=f"{float(value.detach()):.4f}")
                self.seconds += time.perf_counter() - began
                began = time.perf_counter()
                self._save()
        bar.close()
        self.average.copy_to(self.module.parameters())

    def _save(self) -> None:
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
            "done": self.done,
            "seconds": self.seconds,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        torch.save(state, part)
        sync(part)
        os.replace(part, self.path)

    def _load(self) -> None:
        device = next(self.module.parameters()).device
        state = _read(self.path, device)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
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
