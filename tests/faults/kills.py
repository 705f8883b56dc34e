"""SIGKILL at any moment: the command started again leaves, bit by bit, what it always does."""

import random
import signal

from tests.faults.calls import call, signal_at
from tests.faults.desk import WORKS, Lab, Trial, contents, difference

GROUPS = list(WORKS)


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Kill a command before a change of a file, or after a time; then run it to its end."""
    work, usual = WORKS[group], lab.undisturbed(WORKS[group])
    folder = lab.copy(work.former)
    before = contents(folder, work.results)
    if draw.random() < 0.7:
        number = draw.randint(1, usual.changes)
        what = f"SIGKILL before change {number} of {usual.changes}"
        call(work.command, folder, before=signal_at(folder, number, signal.SIGKILL))
    else:
        seconds = draw.uniform(0, usual.seconds)
        what = f"SIGKILL after {seconds:.3f} of {usual.seconds:.3f} s"
        call(work.command, folder, kill_after=seconds)
    lost = sorted(before.keys() - contents(folder, work.results).keys())
    if lost:
        return Trial(what, f"lost at the kill: {', '.join(lost)}")
    end = call(work.command, folder)
    again = difference(contents(folder, work.results), usual.results)
    stopped = f"does not go on: {end.text.strip()[-160:]}" if end.code != 0 else None
    return Trial(what, end.complaint() or stopped or again)
