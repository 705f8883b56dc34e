"""CPU threads of a process: `accelerate launch` sets one per process, which leaves cores idle."""

import os

import torch


def use(threads: int | None) -> int:
    """Let torch compute with `threads`, or this process's share of the cores; returns them."""
    if threads is None:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        threads = max(1, len(os.sched_getaffinity(0)) // local)
    torch.set_num_threads(threads)
    return threads
