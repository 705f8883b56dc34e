"""Processes under Accelerate, whose launcher and config decide their number and precision.

Starting them, work of the main process that all share, work that is shared out, and the machine
they compute on. `latentdc.heartbeat` ends a run of which a process is gone.
"""

import atexit
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar, cast
from uuid import uuid4

import torch
import torch.distributed.nn.functional  # before there is a group: see _end_group
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor

from latentdc import __version__, ranks
from latentdc.errors import InputError, everywhere
from latentdc.heartbeat import connect_store, meeting, silence, start_heartbeat
from latentdc.launcher import asked_for, refuse_ignored
from latentdc.locks import lock_owner
from latentdc.modes import precision_of, use_precision

_PATIENCE = timedelta(days=7)  # of processes that wait for one that works
_TOGETHER = 2.0  # seconds in which a process may be sent one request to stop in several ways
_VISIBLE = 10  # seconds in which a file of one node is seen on the others
T = TypeVar("T")


# ---- Processes ----


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
        precision: of the recipe, or None; see `use_precision`, whose flags the caller puts back.
        processes: that the launcher must have started, or None.
        trackers: names of experiment trackers that Accelerate knows.
        folder: of the run, where trackers that write files write them, too.

    Raises:
        InputError: the launcher's settings contradict `precision` or `processes`, or ask for what
            latentdc does not do (see `refuse_ignored`), a tracker is not installed, or some
            processes do not see the main one's folder.
    """
    installed = [tracker.value for tracker in get_available_trackers()]
    if missing := [tracker for tracker in trackers if tracker not in installed]:
        raise InputError(
            f"trackers: {', '.join(missing)} cannot be used here; installed of those that "
            f"Accelerate knows: {', '.join(installed) or 'none'}."
        )
    refuse_ignored()
    accelerator = _accelerator(trackers, folder)
    asked = asked_for("num_processes")
    if asked > accelerator.num_processes:
        ranks.warn(
            f"{asked} processes were asked for and {accelerator.num_processes} runs; "
            f"{_how_to_start(asked)}"
        )
    use_threads(threads)
    if folder is not None:
        require_shared(folder, accelerator)
    use_precision(precision, accelerator)
    if processes is not None and processes != accelerator.num_processes:
        raise InputError(
            f"the recipe has processes={processes}, but {accelerator.num_processes} run; "
            f"{_how_to_start(processes)}"
        )
    if not accelerator.is_main_process:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
    facts = this_machine(accelerator).items()
    ranks.detail("machine", ", ".join(f"{name} {fact}" for name, fact in facts if fact))
    return accelerator


def _accelerator(trackers: Sequence[str], folder: Path | None) -> Accelerator:
    """An Accelerator with all processes of the launcher, which are watched from then on."""
    started = ranks.processes()
    if started > 1 and not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # else each would work alone
    with meeting():
        try:
            accelerator = Accelerator(
                log_with=list(trackers) or None,
                project_dir=folder,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
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
        start_heartbeat(accelerator)
    return accelerator


def _end_group() -> None:
    """End the threads of the processes' group, which else abort a process that has done its work.

    In torch 2.14 those of gloo do so in every second launch: they need Python, which is gone. They
    live as long as anything holds the group, and default arguments of torch.distributed.nn hold the
    one that exists when it is imported. After an error of our own the threads are left alone, for
    they may wait for others.
    """
    if torch.distributed.is_initialized() and not hasattr(sys, "last_type"):
        torch.distributed.destroy_process_group()


def require_precision(accelerator: Accelerator) -> None:
    """Refuse to make sets in a precision whose gradients would need scaling."""
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise InputError(
            f"Accelerate runs in {accelerator.mixed_precision}, in which the small gradients that "
            "pass through a prior vanish; launch with --mixed_precision bf16 or no."
        )


def require_shared(folder: Path, accelerator: Accelerator, key: str = "output=...") -> None:
    """Refuse nodes that have a folder of that name each; the main process's lock tells it."""
    if accelerator.num_processes == 1:
        return
    owner = broadcast(lock_owner(folder) if accelerator.is_main_process else None)
    if owner is None:  # called from Python, without a lock
        return
    end = time.monotonic() + _VISIBLE
    while not (seen := lock_owner(folder) == owner) and time.monotonic() < end:
        time.sleep(0.1)
    here = f"rank {accelerator.process_index} on {socket.gethostname()} ({folder.resolve()})"
    blind = [name for name in gather_object([None if seen else here]) if name is not None]
    if blind:
        raise everywhere(
            InputError(
                f"{folder} of the main process is not what {', '.join(blind[:4])} sees there; all "
                f"nodes need one shared folder: name it by its whole path, with {key}"
            )
        )


def _how_to_start(processes: int) -> str:
    if torch.cuda.is_available():
        return f"launch with --multi_gpu --num_processes {processes}."
    return (
        "on a CPU start them with ACCELERATE_USE_CPU=true torchrun --nproc_per_node "
        f"{processes} -m latentdc.distill ... (accelerate launch starts one)."
    )


def broadcast(value: T) -> T:
    """What the main process has as `value`, on every process."""
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


def main_first(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """The result of `work`, which the main process does before the others.

    What it refuses, all processes refuse together.
    """
    result, refusal = _on_main(accelerator, work)
    _refuse(broadcast(refusal))
    return cast(T, result) if accelerator.is_main_process else work()


def main_alone(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """The result of `work` on every process; the main process alone does it.

    What it refuses, all processes refuse together.
    """
    result, refusal = broadcast(_on_main(accelerator, work))
    _refuse(refusal)
    return cast(T, result)


def _on_main(accelerator: Accelerator, work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What the main process does, and why it refuses; nothing on others."""
    if not accelerator.is_main_process:
        return None, None
    try:
        return work(), None
    except InputError as error:
        return None, str(error)


def _refuse(refusal: str | None) -> None:
    if refusal is not None:
        raise everywhere(InputError(refusal))


def together(
    accelerator: Accelerator, find: Callable[[Callable[[], T]], T], make: Callable[[], T]
) -> T:
    """What `find` returns on the main process, on every process.

    Where it calls the function that it is given, all processes `make` together; its value there is
    the main process's.
    """
    asked = False

    def made() -> T:
        nonlocal asked
        asked = broadcast(True)
        return make()

    if accelerator.is_main_process:
        found = find(made)
        if not asked:
            broadcast(False)
        return broadcast(found)
    if broadcast(None):
        make()
    return cast(T, broadcast(None))


def shared_out(count: int, accelerator: Accelerator) -> Iterator[int]:
    """Ascending indices below `count`, each given to the one process that is free for it first.

    All processes call this together, and need not wait for each other while they work.
    """
    if accelerator.num_processes == 1:
        yield from range(count)
        return
    queue, store = broadcast(uuid4().hex), connect_store(silence())
    while (index := store.add(queue, 1) - 1) < count:
        yield index


@contextmanager
def stop_requests(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM in the block, with a function that says whether a process was sent one.

    All processes call the function together, and it says the same to all. Signals that come within
    `_TOGETHER` of the first are one request: a scheduler sends one to every process, launchers
    included, and these hand theirs on. A later one ends the process as it would without the block.
    Outside of the main thread nothing is caught.
    """
    asked = threading.Event()

    def note_request(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(_TOGETHER)
        signal.signal(signal.SIGTERM, before)
        asked.set()

    caught = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    if caught:
        signal.signal(signal.SIGTERM, note_request)
    group: torch.distributed.ProcessGroup | None = None
    if accelerator.num_processes > 1:  # numbers of the CPU, so that no GPU is waited for
        made = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        group = cast(torch.distributed.ProcessGroup, made)

    def requested() -> bool:
        if group is None:
            return asked.is_set()
        number = torch.tensor(int(asked.is_set()))
        torch.distributed.all_reduce(number, group=group)
        return bool(number)

    try:
        yield requested
        if asked.is_set():  # too late to be answered
            os.kill(os.getpid(), signal.SIGTERM)
        if group is not None:
            torch.distributed.destroy_process_group(group)
    finally:
        if caught:
            signal.signal(signal.SIGTERM, before)


def gather_rows(rows: Tensor, accelerator: Accelerator) -> tuple[Tensor, int]:
    """All processes' rows (N, ...), in the order of processes, without graphs; counts may differ.

    Returns:
        (sum of N, ...) and the index of this process's first row.
    """
    rows = rows.detach()
    if accelerator.num_processes == 1:
        return rows, 0
    count = torch.tensor([len(rows)], device=rows.device)
    counts = accelerator.gather(count).tolist()
    padded = accelerator.gather(accelerator.pad_across_processes(rows))
    kept = torch.cat([torch.arange(n) + max(counts) * i for i, n in enumerate(counts)])
    return padded[kept.to(rows.device)], sum(counts[: accelerator.process_index])


# ---- The machine ----


def this_machine(accelerator: Accelerator) -> dict[str, str | int | None]:
    """Versions and hardware of this process, for results.json."""
    device = accelerator.device
    return {
        "latentdc": __version__,
        "torch": torch.__version__,
        "device": f"{device.type} ({device_name(device)})",
        "threads": torch.get_num_threads(),  # of the CPU, for each process
        "processes": accelerator.num_processes,
        "precision": precision_of(accelerator),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _commit(),  # of the checkout that latentdc is imported from
    }


@cache
def _commit() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of another user
        return None


def device_name(device: torch.device) -> str:
    """Model of the GPU, or of the processor where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def use_threads(threads: int | None) -> int:
    """Let torch compute with `threads`, or this process's share of the cores; returns them.

    `accelerate launch` sets one thread per process, which leaves cores idle.
    """
    if threads is None:
        threads = max(1, cores() // ranks.local_processes())
    torch.set_num_threads(threads)
    return threads


def cores() -> int:
    """Cores that this process may use; not every system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
