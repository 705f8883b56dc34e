"""What a result was computed on and with."""

import platform
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from latentdc import __version__


@dataclass(frozen=True)
class Machine:
    """Versions and hardware, for results.json.

    Attributes:
        latentdc: version.
        torch: version.
        device: type, and name where it is not a CPU.
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
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return Machine(
        latentdc=__version__,
        torch=torch.__version__,
        device=device.type + name,
        threads=torch.get_num_threads(),
        processes=accelerator.num_processes,
        precision=accelerator.mixed_precision,
        system=f"{platform.system()} {platform.machine()}",
    )
