"""Signs of life between processes, and the store of their launcher.

How long a process may work alone while the others wait (a download, a teacher's training, a cell of
a sweep that another command holds) cannot be told beforehand, so that waits have no limit of their
own. Instead a thread of each process counts up in the launcher's store, every few seconds. A
process that is stopped, or whose machine is gone, counts no more, and ends the run within minutes.
"""

import atexit
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from accelerate import Accelerator

from latentdc import ranks
from latentdc.errors import InputError, everywhere

_ENDED = b"ended"
_SILENCE = "LATENTDC_SILENCE"
_IMPORTS = 30.0  # seconds
_hearts: list["_Heart"] = []


def connect_store(seconds: float) -> Any:
    """A connection of one's own to the launcher's store, which no collective blocks.

    An answer that takes so many `seconds` counts as lost.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=seconds))


def start_heartbeat(accelerator: Accelerator) -> None:
    """Give signs of life, and listen for those of the others, until this process ends."""
    if accelerator.num_processes == 1 or _hearts or "MASTER_ADDR" not in os.environ:
        return
    heart = _Heart(accelerator.process_index, accelerator.num_processes, silence())
    accelerator.wait_for_everyone()  # all have counted once
    heart.start()
    _hearts.append(heart)
    atexit.register(heart.end)


def silence() -> float:
    """Seconds without a sign of life after which a process counts as stopped."""
    given = os.environ.get(_SILENCE, "300")
    with suppress(ValueError):
        if 1 <= float(given) < math.inf:
            return float(given)
    raise everywhere(
        InputError(f"{_SILENCE} is a number of seconds from 1 on, such as 300, got {given[:40]!r}.")
    )


@contextmanager
def meeting() -> Iterator[None]:
    """End this process if the block, in which all processes meet, takes longer than the silence.

    Some seconds are given in any case: imports take that long on a busy machine.
    """
    seconds = max(silence(), _IMPORTS)
    why = f"the other processes have not all started after {seconds:.0f} seconds"
    late = threading.Timer(seconds, _end_process, [ranks.rank(), why])
    late.daemon = True
    if ranks.processes() > 1:
        late.start()
    try:
        yield
    finally:
        late.cancel()


class _Heart(threading.Thread):
    """Counts up for its process, and ends it where another one is silent for too many seconds."""

    def __init__(self, rank: int, processes: int, silence: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.rank, self.silence, self.every = rank, silence, min(5.0, silence / 4)
        self.over = threading.Event()
        self.store = connect_store(silence)
        self.keys = [f"latentdc/beat/{index}" for index in range(processes)]
        self.store.set(self.keys[rank], "0")

    def run(self) -> None:
        """Count and listen."""
        # Silence is counted in own beats, not by the clock: where all are stopped together, and go
        # on together, nobody was silent.
        missed, heard, beat = [0] * len(self.keys), [b""] * len(self.keys), 0
        lost = 0
        while not self.over.wait(self.every):
            beat += 1
            try:
                self.store.set(self.keys[self.rank], str(beat))
                found = self.store.multi_get(self.keys)
                lost = 0
            except Exception:  # of another type in each release of torch
                lost += 1
                if lost * self.every >= self.silence:
                    self._end_process("the process that started the others is gone")
                continue
            for index, told in enumerate(found):
                same = told == heard[index] and told != _ENDED and index != self.rank
                missed[index] = missed[index] + 1 if same else 0
                if missed[index] * self.every >= self.silence:
                    self._end_process(f"rank {index} has given no sign of life")
            heard = found

    def end(self) -> None:
        """Tell the others that this process ends by itself."""
        self.over.set()
        self.join(timeout=1)
        with suppress(Exception):  # the launcher may be gone
            self.store.set(self.keys[self.rank], _ENDED.decode())

    def _end_process(self, why: str) -> None:
        cause = "it was stopped, or its machine is gone"
        _end_process(self.rank, f"{why} for {self.silence:.0f} seconds: {cause}")


def _end_process(rank: int, why: str) -> None:
    time.sleep(2 if rank > 0 else 0)  # what the main one tells is told
    with suppress(Exception):  # nobody may read it any more
        print(
            f"\nlatentdc: error: rank {rank}: {why}; finished files are whole, start the run again "
            "to go on.",
            file=sys.stderr,
            flush=True,
        )
    os._exit(1)  # the main thread waits inside a collective, which nothing interrupts
