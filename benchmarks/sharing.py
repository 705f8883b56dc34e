"""How busy are processes that share the trainings of an evaluation?

Trainings take as long as their multiply-adds say. Taken from a queue, the longest first, they are
held against every p-th of them in the table's order, which is how they were shared before. Nothing
is trained.

python benchmarks/sharing.py [PROTOCOL] [--resolution 256] [--rows 3] [--processes 5 10]
"""

import argparse
from collections.abc import Sequence

from latentdc.evaluate.loading import load_protocol
from latentdc.networks.build import forward_work


def trainings(protocol: str, rows: int, classes: int, resolution: int) -> list[float]:
    """Multiply-adds of one image in each training: rows, then seeds, then students."""
    found = load_protocol(protocol)
    works = [forward_work(student, classes, resolution) for student in found.students]
    return works * found.seeds * rows


def every_pth(works: Sequence[float], processes: int) -> float:
    """Busy share of the processes where each has its trainings from the start."""
    ends = [sum(works[index::processes]) for index in range(processes)]
    return sum(ends) / (processes * max(ends))


def queued(works: Sequence[float], processes: int) -> float:
    """Busy share where the process that is free first takes the longest that is left."""
    ends = [0.0] * processes
    for work in sorted(works, reverse=True):
        ends[ends.index(min(ends))] += work
    return sum(ends) / (processes * max(ends))


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each number of processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("protocol", nargs="?", default="ld3m")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[5, 10])
    options = parser.parse_args(argv)
    works = trainings(options.protocol, options.rows, options.classes, options.resolution)
    print(f"{len(works)} trainings of {options.protocol} at {options.resolution} px")
    for processes in options.processes:
        before, now = every_pth(works, processes), queued(works, processes)
        print(f"{processes} processes: every p-th {before:.0%} busy, longest first {now:.0%}")


if __name__ == "__main__":
    main()
