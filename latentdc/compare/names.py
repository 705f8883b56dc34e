"""Names that tell the sets of a comparison apart."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from latentdc.recipe import BASELINES

if TYPE_CHECKING:
    from latentdc.compare.entries import Entry


def named_apart(entries: Sequence["Entry"]) -> list["Entry"]:
    """Names of their own: two that are alike get the sets beside them, or their run or file."""
    return _by_run(_beside(entries))


def _beside(entries: Sequence["Entry"]) -> list["Entry"]:
    """A baseline that stands in one table with another of other class sizes names its sets."""
    renamed = []
    for entry in entries:
        near = [
            e for e in entries if (e.run, e.ipc, e.group) == (entry.run, entry.ipc, entry.group)
        ]
        if entry.row in BASELINES and len({e.counts for e in near if e.row == entry.row}) > 1:
            sets = [e.name for e in near if e.counts == entry.counts and e.row not in BASELINES]
            beside = ", ".join(dict.fromkeys(sets)) or f"sets of class sizes {entry.counts}"
            entry = replace(entry, name=f"{entry.row} beside {beside}")
        renamed.append(entry)
    return renamed


def _by_run(entries: Sequence["Entry"]) -> list["Entry"]:
    renamed = []
    for entry in entries:
        alike = [e for e in entries if (e.name, e.ipc) == (entry.name, entry.ipc)]
        if len({(e.file, e.row) for e in alike}) > 1:
            runs = {e.run for e in alike}
            short = {run.name for run in runs}
            own = entry.run.name if len(short) == len(runs) else str(entry.run)
            if len({e.file for e in alike if (e.run, e.row) == (entry.run, entry.row)}) > 1:
                own = f"{own}/{entry.file.relative_to(entry.run)}"
            name = entry.row if entry.row == "distilled" else entry.name
            entry = replace(entry, name=f"{name} ({own})")
        renamed.append(entry)
    return renamed
