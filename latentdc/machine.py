"""What this process computes on and with: its threads, its device, and the facts for results."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc import __version__, ranks


@dataclass(frozen=True)
class Machine:
    """Versions and hardware, for results.json.

    Attributes:
        latentdc: version.
        torch: version.
        device: type, and model of the GPU or the processor.
        threads: CPU threads of each process.
        processes: of the launch.
        precision: Accelerate's mixed precision.
        system: operating system and processor type.
    """

    latentdc: str
    torch: str
    device: str
    threads: int
    processes: int
    precision: str
    system: str


def this_machine(accelerator: Accelerator) -> Machine:
    """The machine of this process."""
    device = accelerator.device
    return Machine(
        latentdc=__version__,
        torch=torch.__version__,
        device=f"{device.type} ({device_name(device)})",
        threads=torch.get_num_threads(),
        processes=accelerator.num_processes,
        precision=accelerator.mixed_precision,
        system=f"{platform.system()} {platform.machine()}",
    )


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
        local = ranks.local_processes()
        threads = max(1, _cores() // local)
    torch.set_num_threads(threads)
    return threads


def _cores() -> int:
    """Cores that this process may use; not every system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
