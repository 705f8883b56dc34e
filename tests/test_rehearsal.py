"""The rehearsal of the ImageNet recipe still passes, with few classes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_recipe_of_imagenet_is_killed_and_resumed_on_fewer_processes():
    done = subprocess.run(
        [sys.executable, "benchmarks/rehearsal.py", "--classes", "10"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = ("opening", "scoring", "distilling", "evaluating")
    assert all(f"\n{stage}:" in done.stdout for stage in stages)
    assert "two processes: killed" in done.stdout and "accuracy of distilled" in done.stdout
