"""Starting a process under Accelerate, whose launcher and config decide processes and precision."""

import atexit
import logging
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import psutil
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object

from latentdc import heartbeat, ranks
from latentdc.errors import InputError, everywhere
from latentdc.io import lock_owner
from latentdc.machine import use_threads
from latentdc.ranks import warn as warn

PATIENCE = timedelta(days=7)  # of processes that wait for one that works: `heartbeat` ends others
VISIBLE = 10  # seconds in which a file of one node is seen on the others
T = TypeVar("T")


def start(
    *,
    threads: int | None = None,
    precision: str | None = None,
    processes: int | None = None,
    trackers: Sequence[str] = (),
    folder: Path | None = None,
) -> Accelerator:
    """This process's Accelerator, with torch's threads set.

    Args:
        threads: CPU threads; None takes this process's share of the cores.
        precision: that the launcher must have set, or None.
        processes: that the launcher must have started, or None.
        trackers: names of experiment trackers that Accelerate knows.
        folder: of the run, where trackers that write files write them, too.

    Raises:
        InputError: the launcher's settings contradict `precision` or `processes`, a tracker is not
            installed, or some processes do not see the main one's folder.
    """
    installed = [tracker.value for tracker in get_available_trackers()]
    if missing := [tracker for tracker in trackers if tracker not in installed]:
        raise InputError(
            f"trackers: {', '.join(missing)} cannot be used here; installed of those that "
            f"Accelerate knows: {', '.join(installed) or 'none'}."
        )
    accelerator = _accelerator(trackers, folder)
    use_threads(threads)
    if folder is not None and accelerator.num_processes > 1:
        _require_shared(folder, accelerator)
    if precision is not None and precision != accelerator.mixed_precision:
        raise InputError(
            f"the recipe has precision={precision}, but Accelerate runs in "
            f"{accelerator.mixed_precision}; launch with --mixed_precision {precision}, or leave "
            "precision out of the recipe."
        )
    if processes is not None and processes != accelerator.num_processes:
        raise InputError(
            f"the recipe has processes={processes}, but {accelerator.num_processes} run; "
            f"{_how_to_start(processes)}"
        )
    asked = _asked_processes()
    if asked > accelerator.num_processes and accelerator.is_main_process:
        warn(
            f"{asked} processes were asked for and {accelerator.num_processes} runs; "
            f"{_how_to_start(asked)}"
        )
    if not accelerator.is_main_process:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
    return accelerator


def _accelerator(trackers: Sequence[str], folder: Path | None) -> Accelerator:
    """With all processes of the launcher, which are seen from then on.

    Raises:
        InputError: the launcher's environment, or Accelerate's config, cannot be used.
    """
    started = ranks.processes()
    if started > 1 and not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # else each would work alone
    with heartbeat.meeting():
        try:
            accelerator = Accelerator(
                log_with=list(trackers) or None,
                project_dir=folder,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            )
        except ValueError as error:
            raise InputError(
                f"Accelerate cannot start as its launcher, environment or config says: {error}"
            ) from error
        if accelerator.num_processes < started:
            raise InputError(
                f"{started} processes were started (WORLD_SIZE), and Accelerate takes each for the "
                f"only one; {_how_to_start(started)} For one process unset WORLD_SIZE and RANK."
            )
        if started > 1:
            atexit.register(_end_group)
        heartbeat.start(accelerator)
    return accelerator


def _end_group() -> None:
    """End the threads of the processes' group, which else abort a process that has done its work.

    In torch 2.14 those of gloo do so in every second launch: they need Python, which is gone. After
    an error of our own they are left alone, for they may wait for others.
    """
    if torch.distributed.is_initialized() and not hasattr(sys, "last_type"):
        torch.distributed.destroy_process_group()


def _require_shared(folder: Path, accelerator: Accelerator) -> None:
    """Refuse nodes that have a folder of that name each; the main process's lock tells it.

    Raises:
        InputError: names the processes that do not see the main one's; all raise it together.
    """
    owner = agree(accelerator, lock_owner(folder) if accelerator.is_main_process else None)
    if owner is None:  # called from Python, without a lock
        return
    end = time.monotonic() + VISIBLE
    while not (seen := lock_owner(folder) == owner) and time.monotonic() < end:
        time.sleep(0.1)
    here = f"rank {accelerator.process_index} on {socket.gethostname()} ({folder.resolve()})"
    blind = [name for name in gather_object([None if seen else here]) if name is not None]
    if blind:
        raise everywhere(
            InputError(
                f"{folder} of the main process is not what {', '.join(blind[:4])} sees there; all "
                "nodes need one shared folder: name it by its whole path, with output=..."
            )
        )


def _how_to_start(processes: int) -> str:
    if torch.cuda.is_available():
        return f"launch with --multi_gpu --num_processes {processes}."
    return (
        "on a CPU start them with ACCELERATE_USE_CPU=true torchrun --nproc_per_node "
        f"{processes} -m latentdc.distill ... (accelerate launch starts one)."
    )


def _asked_processes() -> int:
    """What `accelerate launch --num_processes N`, our parent, was asked for; 1 if it was not."""
    try:
        parent = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return 1
    line = " ".join(parent)
    asked = re.search(r"--num[-_]processes[= ](\d+)", line)
    return int(asked[1]) if asked and "accelerate" in line else 1


def agree(accelerator: Accelerator, value: object) -> object:
    """What the main process has under `value`, on every process."""
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


def main_first(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """The result of `work`, which the main process does before the others.

    Raises:
        InputError: what the main process refuses, all processes refuse together.
    """
    refusal = result = None
    if accelerator.is_main_process:
        try:
            result = work()
        except InputError as error:
            refusal = str(error)
    if (reason := agree(accelerator, refusal)) is not None:
        raise everywhere(InputError(str(reason)))
    return cast(T, result) if accelerator.is_main_process else work()


def main_alone(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """The result of `work` on every process; the main process alone does it.

    Raises:
        InputError: what the main process refuses, all processes refuse together.
    """
    result: tuple[T | None, str | None] = (None, None)
    if accelerator.is_main_process:
        try:
            result = (work(), None)
        except InputError as error:
            result = (None, str(error))
    result = cast(tuple[T | None, str | None], agree(accelerator, result))
    if result[1] is not None:
        raise everywhere(InputError(result[1]))
    return cast(T, result[0])
