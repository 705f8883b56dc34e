"""Time, memory and work of a function, and the rate of this machine's matrix product."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


def best_seconds(
    works: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Shortest time of each, taken in turns so that a busy machine hinders all alike.

    On a CPU it is the processor's time, over all threads: without what other programs take away.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            wait(device)
            began = clock()
            work()
            wait(device)
            best[name] = min(best[name], clock() - began)
    return best


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most that tensors and buffers took at once above what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return max(e["args"]["Total Allocated"] for e in events if e.get("name") == "[memory]")


def macs(work: Callable[[], object]) -> float:
    """Multiply-adds, of backward too."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Floating-point operations per second of a product of two square matrices, best of many."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds = best_seconds({"": lambda: a @ a}, 10, device)[""]
    return 2 * size**3 / seconds


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
