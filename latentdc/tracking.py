"""What trainings tell of their steps and their end: JSON lines, and Accelerate's trackers."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from PIL import Image
from torch import Tensor

from latentdc.arguments import require_a, require_json, require_whole
from latentdc.errors import InputError, in_short, is_full
from latentdc.io import write_text
from latentdc.results.result import Result
from latentdc.training import OnStep

_LOG_IN = {  # advice by tracker
    "wandb": "log in or set WANDB_MODE=offline",
    **dict.fromkeys(("clearml", "comet_ml", "swanlab"), "log in"),
}


class StepFile:
    """Writes the measures of each step as a line of JSON, and tells the trackers.

    Args:
        path: of the file, which grows.
        accelerator: its main process writes; its trackers are told.
        on_step: is told after them, on every process.
        cut: whether the first step that is told makes the lines of it and of later ones void, as
            where a training goes on from a checkpoint.
    """

    def __init__(
        self,
        path: Path,
        accelerator: Accelerator,
        on_step: OnStep | None = None,
        *,
        cut: bool = True,
    ) -> None:
        self.path, self.accelerator, self.begun = path, accelerator, not cut
        self.on_step = on_step

    def __call__(self, measures: Mapping[str, Any]) -> None:
        """Tell of a finished step: `step`, and numbers by name; methods of one's own call it."""
        measures = _plain(measures)
        if self.accelerator.trackers:
            shown = {name: value for name, value in measures.items() if name != "step"}
            self.accelerator.log(shown, step=measures["step"])
        if self.accelerator.is_main_process:
            self._write(measures)
        if self.on_step is not None:
            self.on_step(measures)

    def _write(self, measures: Mapping[str, Any]) -> None:
        if not self.begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _cut(self.path, measures["step"])
            self.begun = True
        with self.path.open("a") as file:
            file.write(json.dumps(measures) + "\n")


def _plain(measures: Mapping[str, Any]) -> dict[str, Any]:
    """Measures as JSON has them: numbers of torch and NumPy as Python's; others are refused."""
    require_a(Mapping, measures, "what on_step is told", 'such as {"step": 0, "loss": 0.5}')
    found = {
        name: value.item() if hasattr(value, "item") and math.prod(value.shape) == 1 else value
        for name, value in measures.items()
    }
    require_whole(found.get("step"), "step of what on_step is told", least=0)
    require_json(found, "what on_step is told", allow_nan=True)
    return found


class Tell:
    """Tells of a training: a caller of each step, a file and trackers of the means of several.

    A loss is read, for which a GPU waits, at each step for a caller, else at those that are due.

    Args:
        name: of the mean loss.
        on_step: the caller's, which is told after the record.
        record: is told of each step that is due: `step`, the mean loss since the one before under
            its name, `lr`, and the `seconds` since.
        ahead: steps of the record before this training's first.
    """

    def __init__(
        self, name: str, on_step: OnStep | None, record: OnStep, *, ahead: int = 0
    ) -> None:
        self.name, self.on_step, self.record, self.ahead = name, on_step, record, ahead
        self.total: Tensor | float = 0.0
        self.count, self.since = 0, time.perf_counter()

    def __call__(
        self, told: Mapping[str, Any], loss: Tensor, step: int, *, lr: float, due: bool
    ) -> None:
        """Tell of a finished step: its loss, (), and what is `told` to the caller beside it.

        `step` is that of the record, which is told where it is `due`.
        """
        self.total, self.count = self.total + loss, self.count + 1
        if due:
            mean, now = float(self.total) / self.count, time.perf_counter()
            if math.isfinite(mean):
                seconds = round(now - self.since, 4)
                found = {self.name: mean, "lr": lr, "seconds": seconds}
                self.record({"step": self.ahead + step, **found})
            self.total, self.count, self.since = 0.0, 0, now
        if self.on_step is not None:
            self.on_step({**told, "loss": float(loss)})


def tell_with(on_step: OnStep | None, **facts: str) -> OnStep | None:
    """An `on_step` that adds these facts to what it is told; None of None."""
    return None if on_step is None else lambda measures: on_step({**facts, **measures})


def _cut(path: Path, start: int) -> None:
    """Remove the lines of steps from `start` on, which are computed again."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _step_of_line(line) < start]
    write_text(path, "".join(f"{line}\n" for line in kept))


def _step_of_line(line: str) -> float:
    """Step of a line; a line that a kill or a full disk cut short counts as later than all."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")


def start_trackers(accelerator: Accelerator, recipe: str, name: str, folder: Path) -> None:
    """Begin a run in each tracker that the accelerator was made with.

    Trackers get the keys of the recipe, YAML without paths, flat, such as `distill.steps`; wandb
    writes into the folder of the run. One that cannot begin, as where nobody is logged in at it, is
    refused, and the others are ended.
    """
    given = {"wandb": {"name": name, "dir": str(folder)}}
    config, wanted = flat(yaml.safe_load(recipe)), accelerator.log_with
    begun: list[GeneralTracker] = []
    if wanted and accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)  # wandb looks for a repository around it
    for one in wanted:  # by itself, so that it is known which of them fails
        accelerator.log_with, accelerator.trackers = [one], []
        try:
            accelerator.init_trackers("latentdc", config=config, init_kwargs=given)
        except Exception as error:  # each has its own
            for tracker in (*begun, *accelerator.trackers):
                with suppress(Exception):  # of one that is only half there
                    tracker.finish()
            with suppress(OSError):  # unless something is in it
                folder.rmdir()
            if is_full(error):
                raise
            raise InputError(
                f"trackers: {one} cannot begin ({type(error).__name__}: {in_short(error)}); "
                f"{_LOG_IN.get(str(one), 'mend that')}, or take {one} out of trackers."
            ) from error
        begun += accelerator.trackers
    accelerator.log_with, accelerator.trackers = wanted, begun


def flat(tree: object, key: str = "") -> dict[str, object]:
    """The leaves of nested mappings by their whole keys; lists are JSON, nothing is `null`."""
    if isinstance(tree, Mapping):
        parts = [flat(value, f"{key}.{name}" if key else str(name)) for name, value in tree.items()]
        return {name: value for part in parts for name, value in part.items()}
    plain = isinstance(tree, bool | int | float | str)
    return {key: tree if plain else json.dumps(tree)}


def track_picture(accelerator: Accelerator, path: Path, step: int) -> None:
    """Give the trackers that take pictures the one in a file."""
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            pixels = np.asarray(Image.open(path).convert("RGB"))[None]  # (1, H, W, 3)
            form = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"images": pixels}, step=step, **form)


def end_trackers(accelerator: Accelerator, results: Sequence[Result] = (), step: int = 0) -> None:
    """Tell the accuracies as numbers of a step, and end the runs, but not the processes' group."""
    told: dict[str, float] = {}
    for one in results:
        name = f"accuracy/{one.set}/{one.student}"
        told[name] = one.mean
        if one.std is not None:
            told[f"{name}/std"] = one.std
    if accelerator.trackers and told:
        accelerator.log(told, step=step)
    for tracker in accelerator.trackers:
        tracker.finish()
