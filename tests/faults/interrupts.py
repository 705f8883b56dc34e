"""Ctrl-C at any moment: one line, and the command started again leaves what it always does."""

import random
import signal

from tests.faults.calls import call, signal_at
from tests.faults.desk import WORKS, Lab, Trial, contents, difference

GROUPS = list(WORKS)


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Interrupt a command before a change of a file; then run it to its end."""
    work, usual = WORKS[group], lab.undisturbed(WORKS[group])
    folder = lab.copy(work.former)
    number = draw.randint(1, usual.changes)
    what = f"SIGINT before change {number} of {usual.changes}"
    first = call(work.command, folder, before=signal_at(folder, number, signal.SIGINT))
    end = call(work.command, folder)
    again = difference(contents(folder, work.results), usual.results)
    stopped = f"does not go on: {end.text.strip()[-160:]}" if end.code != 0 else None
    return Trial(what, first.complaint() or end.complaint() or stopped or again)
