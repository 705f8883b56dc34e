"""Random draws keyed by what they are for, never taken from a global stream or the clock.

Every draw is made on the CPU from (seed, keys), such as (seed, step, class), so that any number
of processes and any device see the same numbers.
"""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator

_ALONE = threading.RLock()  # all threads share torch's global streams


def key_seed(seed: int, *keys: int | str) -> int:
    """63-bit seed that depends on every key and on their order, the same in every process.

    Numbers and texts of NumPy or torch are the same keys as Python's.
    """
    plain = tuple(str(key) if isinstance(key, str) else int(key) for key in (seed, *keys))
    return int.from_bytes(hashlib.sha256(repr(plain).encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: int | str) -> Generator:
    """A CPU generator of its own for (seed, keys)."""
    return Generator().manual_seed(key_seed(seed, *keys))


@contextmanager
def global_draws(seed: int, *keys: int | str) -> Iterator[None]:
    """Let what draws from torch's global CPU stream (layer initialisation) draw from these keys.

    The global stream is put back afterwards, and so is that of a GPU, which is seeded with it.
    """
    with own_streams(gpus_in_use()):
        torch.manual_seed(key_seed(seed, *keys))
        yield


@contextmanager
def own_streams(gpus: Sequence[int] = ()) -> Iterator[None]:
    """Let the block draw from torch's global streams, of the CPU and GPUs, and put them back.

    Of several threads one at a time does, so that none draws from the stream of another.
    """
    with _ALONE, torch.random.fork_rng(devices=[*gpus]):
        yield


def gpus_in_use() -> list[int]:
    """Index of the GPU that this process computes on; none where it uses none."""
    return [torch.cuda.current_device()] if torch.cuda.is_initialized() else []


def choose(population: int, count: int, source: Generator) -> torch.Tensor:
    """(count,) different indices below `population`, or all of them where that is smaller."""
    return torch.randperm(population, generator=source)[:count]
