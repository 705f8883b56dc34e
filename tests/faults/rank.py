"""Run by torchrun: `python -m tests.faults.rank SIGNAL RANK SECONDS COMMAND ...`.

A `latentdc` command, one of whose processes gets a signal so many seconds after all have started.
Without a signal (`none`) rank 0 writes to the file `seconds` how long it went on from there.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from latentdc import cli, divided, runtime

if os.environ["DIVIDED"]:  # all trainings that can be, however short their steps are
    divided.LONG = 1.0
sign, rank, seconds, *words = sys.argv[1:]
begin = runtime.start


def start(*given, **options):
    accelerator = begin(*given, **options)
    began = time.monotonic()
    if os.environ["RANK"] == rank:
        if sign == "none":
            import atexit

            atexit.register(lambda: Path("seconds").write_text(f"{time.monotonic() - began}"))
        else:
            number = getattr(signal, sign)
            timer = threading.Timer(float(seconds), os.kill, [os.getpid(), number])
            timer.daemon = True
            timer.start()
    return accelerator


runtime.start = start
cli.main(words)
