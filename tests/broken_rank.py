"""Run by torchrun: a distillation in which a process ends, stops, comes late or looks elsewhere.

Arguments: what happens, the rank that it happens to, and the words of `latentdc distill`.
"""

import os
import signal
import sys
import time
from pathlib import Path

from latentdc import cli
from latentdc import distill as command
from latentdc.errors import InputError, RunError

what, rank, *words = sys.argv[1:]
mine = os.environ["RANK"] == rank or rank == "all"


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fail(error: BaseException):
    def raise_it(*_: object, **__: object) -> None:
        raise error

    return raise_it


FAULTS = {
    "input": fail(InputError("found here")),
    "run": fail(RunError("broke here")),
    "system": fail(PermissionError(13, "Permission denied", "/closed")),
    "memory": fail(MemoryError()),
    "ours": fail(ZeroDivisionError("ours")),
    "stopped": lambda *_, **__: stop(),
    "killed": lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL),
}

if what == "late" and mine:
    time.sleep(600)
if what in FAULTS and mine:
    from latentdc.methods import matching

    matching.make_optimizer = FAULTS[what]
if what == "elsewhere" and mine:
    Path("node").mkdir()
    os.chdir("node")
    Path("quick.yaml").write_text(Path("../quick.yaml").read_text())
cli.exits(lambda: command.main(words))
