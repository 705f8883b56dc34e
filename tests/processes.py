"""Real processes over gloo, started afresh: a fork of a process that used OpenMP may hang."""

import os
import subprocess
import sys
from pathlib import Path

from accelerate import Accelerator


def run_two(module: str, *words: object) -> None:
    """Run `python -m module words` in two processes that torchrun starts; its output is shown."""
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", "-m", module, *map(str, words)),
        ],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=180,
    )


def end(accelerator: Accelerator) -> None:
    """End the group of processes with its threads, which else may abort a process at its end."""
    accelerator.end_training()
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert not threads & {"pt_gloo_runloop", "gloo_tcp_loop"}, threads
