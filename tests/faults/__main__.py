"""`python -m tests.faults KIND[/GROUP] --count N --seed S`: try faults, a line for each group.

Kinds: kills, interrupts, disk, damages, hostile, recipes, signals, resumes. Exit code 1 where one
was not held. A fault is drawn from kind, group, seed and number alone: `--only NUMBER` repeats one,
and `--keep FOLDER` leaves its files there.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.faults import calls, damages, disk, hostile, interrupts, kills, recipes, resumes, signals
from tests.faults.desk import Lab, Skip, Trial

KINDS = {
    "kills": kills,
    "interrupts": interrupts,
    "disk": disk,
    "damages": damages,
    "hostile": hostile,
    "recipes": recipes,
    "signals": signals,
    "resumes": resumes,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", help="kind, or kind/group; all where none is named")
    parser.add_argument("--count", type=int, default=20, help="faults of each group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one fault to try")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is left there")
    options = parser.parse_args()
    pairs = chosen(options.kinds)
    calls.warm()
    failed = 0
    print("| kind | tried | held | failed |\n| --- | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults") as temporary:
        lab = Lab((options.keep or Path(temporary)).resolve())
        for kind, group in pairs:
            numbers = range(options.count) if options.only is None else [options.only]
            failed += tried(kind, group, numbers, options.seed, lab)
    return 1 if failed else 0


def chosen(names: list[str]) -> list[tuple[str, str]]:
    """Kinds with their groups."""
    pairs = [(kind, group) for kind, module in KINDS.items() for group in module.GROUPS]
    unknown = [name for name in names if not any(_fits(name, pair) for pair in pairs)]
    if unknown:
        known = ", ".join("/".join(pair) for pair in pairs)
        sys.exit(f"unknown: {', '.join(unknown)}; known: {known}")
    return [pair for pair in pairs if not names or any(_fits(name, pair) for name in names)]


def _fits(name: str, pair: tuple[str, str]) -> bool:
    return name in (pair[0], "/".join(pair))


def tried(kind: str, group: str, numbers, seed: int, lab: Lab) -> int:
    """Try the faults of a group, print its line and what was not held.

    Returns:
        How many were not held.
    """
    held, failures = 0, []
    for number in numbers:
        draw = random.Random(f"{kind}/{group}/{seed}/{number}")
        try:
            trial: Trial = KINDS[kind].attempt(group, draw, lab)
        except Skip as reason:
            print(f"| {kind}, {group} | skipped: {reason} | | |", flush=True)
            return 0
        if trial.complaint is None:
            held += 1
        else:
            failures.append((number, trial))
    print(f"| {kind}, {group} | {held + len(failures)} | {held} | {len(failures)} |", flush=True)
    for number, trial in failures:
        again = f"python -m tests.faults '{kind}/{group}' --seed {seed} --only {number}"
        print(f"  {trial.what}: {trial.complaint}\n    {again}", file=sys.stderr, flush=True)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
