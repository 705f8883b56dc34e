"""That the comparison with released code runs, on the same mathematics."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAIRS = "ld3m fast|ld3m low|dm|dc|mtt unrolled|mtt replayed|mtt constant|evaluation".split("|")


@pytest.mark.slow
def test_every_step_meets_the_released_schedule():
    command = [sys.executable, "released_code.py", "--tiny", "--repeats", "1"]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(tuple(PAIRS))]
    rows = [line.rsplit(maxsplit=6) for line in lines]
    assert [name for name, *_ in rows] == PAIRS
    for _name, *numbers, apart in rows:
        assert min(map(float, numbers)) > 0
        assert apart == "-" or float(apart) < 1e-4
