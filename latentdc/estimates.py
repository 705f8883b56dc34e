"""What is common to dry runs: counting work without weights, and writing quantities for people."""

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

UNKNOWN = "unknown until downloaded"
USABLE = 0.3  # share of the measured matrix rate that networks commonly reach


def multiply_adds(forward: Callable[[], object]) -> float:
    """Multiply-adds of a forward pass; on the `meta` device nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops()) / 2


def seconds_for(work: float) -> float:
    """A guess of how long so many multiply-adds take on this machine's first device."""
    return work / (USABLE * _matrix_rate())


def aligned(lines: Mapping[str, str]) -> str:
    """A line of `quantity: value` each."""
    width = max(map(len, lines)) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in lines.items())


def in_bytes(count: float) -> str:
    """A number of bytes, like 1.3 GB."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.3g} {units[power]}"


def in_time(seconds: float) -> str:
    """Seconds, in a unit that suits them."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _matrix_rate(size: int = 1024) -> float:
    """Multiply-adds per second of one matrix product on this machine's first device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.ones(size, size, device=device)
    float((a @ a)[0, 0])
    began = time.perf_counter()
    for _ in range(5):
        a = (a @ a).clamp_(max=1)
    float(a[0, 0])
    return 5 * size**3 / (time.perf_counter() - began)
