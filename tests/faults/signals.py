"""A signal to one of two processes at any moment: all end soon, and go on as if nothing had been.

SIGSTOP is what a machine that is gone looks like to the others.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.calls import ERROR, End
from tests.faults.desk import WORKS, Lab, Trial, contents, difference

ROOT = Path(__file__).parents[2]
GROUPS = ("run", "prune", "labels", "experts", "sweep", "mosaics", "divided", "divided experts")
SIGNALS = ("SIGTERM", "SIGINT", "SIGSTOP", "SIGKILL")
SILENCE = 4.0  # seconds after which a process that was stopped is given up
LIMIT = 150.0  # seconds: a launcher waits for half a minute before it kills what was stopped


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Signal a process; then run the command to its end in two processes again."""
    work = WORKS[group]
    usual, seconds = undisturbed(group, lab)
    sign, rank, moment = draw.choice(SIGNALS), draw.choice("01"), draw.uniform(0, seconds)
    what = f"{sign} to rank {rank} after {moment:.2f} of {seconds:.2f} s"
    folder = lab.copy(work.former)
    before = contents(folder, work.results)
    divided = group.startswith("divided")
    first = two(work.command, folder, sign, rank, moment, divided=divided)
    lost = sorted(before.keys() - contents(folder, work.results).keys())
    if lost:
        return Trial(what, f"lost at the signal: {', '.join(lost)}")
    end = two(work.command, folder, divided=divided)
    stopped = f"does not go on: {end.text.strip()[-600:]}" if end.code != 0 else None
    again = difference(contents(folder, work.results), usual)
    return Trial(what, complaint(first) or stopped or again)


def undisturbed(group: str, lab: Lab) -> tuple[dict[str, object], float]:
    """What two processes leave where nothing disturbs them, and the seconds that they take."""
    kept = lab.two_processes
    if group not in kept:
        folder = lab.copy(WORKS[group].former)
        end = two(WORKS[group].command, folder, divided=group.startswith("divided"))
        if end.code != 0:
            raise SystemExit(f"undisturbed: {group}\n{end.text}")
        if group.startswith("divided") and "which divide each batch" not in end.text:
            raise SystemExit(f"undisturbed: no training of {group} is divided\n{end.text}")
        seconds = float((folder / "seconds").read_text())
        kept[group] = contents(folder, WORKS[group].results), seconds
    return kept[group]


def two(
    words: tuple[str, ...],
    folder: Path,
    sign: str = "none",
    rank: str = "0",
    moment: float = 0,
    *,
    divided: bool = False,
) -> End:
    """Run a command in two processes, of which one may get a signal; all trainings `divided`."""
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", "-m", "tests.faults.rank"),
            *(sign, rank, f"{moment}", *words),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder / "home"),
            "LATENTDC_CACHE": str(folder / "cache"),
            "HF_HOME": str(folder / "hf"),
            "LATENTDC_SILENCE": str(SILENCE),
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "DIVIDED": "1" if divided else "",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    code: int | None
    try:
        text, _ = process.communicate(timeout=LIMIT)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        code = None
    return End(code, text, time.monotonic() - began)


def complaint(end: End) -> str | None:
    """Why this is no orderly end; the launcher's own lines about its processes are its affair."""
    if end.code is None:
        return f"no end after {end.seconds:.0f} s: {end.text.strip()[-600:]}"
    told = [line for line in end.text.splitlines() if line.startswith(ERROR)]
    ours = [line for line in end.text.splitlines() if f'File "{ROOT}/latentdc' in line]
    if ours:
        return f"traceback: {ours[-1].strip()}; {end.text.strip()[-600:]}"
    return f"{len(told)} error lines: {' | '.join(told)}" if len(told) > 1 else None
