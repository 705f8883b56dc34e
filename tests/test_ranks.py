"""Several processes: each tells its own error, and one that stopped does not hold up the others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.methods.command import write_recipe

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)


def two(*words: str, silence: object = 300) -> tuple[int, list[str], str]:
    """Exit code, latentdc's lines, and all that was printed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", *words),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "LATENTDC_SILENCE": str(silence),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("latentdc: error: ")]
    return done.returncode, told, done.stderr


def broken(what: str, rank: str, *overrides: str, **options):
    words = ["-m", "tests.broken_rank", what, rank, "quick.yaml", *overrides]
    return two(*words, **options)


@pytest.mark.parametrize(
    ("what", "rank", "line"),
    [
        ("input", "1", "rank 1: found here"),
        ("system", "1", "rank 1: /closed: Permission denied; name a place that is open to you."),
        ("run", "0", "rank 0: broke here"),
    ],
)
def test_an_error_of_a_process_is_told_once_with_its_rank(what, rank, line):
    code, told, everything = broken(what, rank)
    assert code != 0 and len(told) == 1, everything
    assert told[0].startswith(f"latentdc: error: {line}")


def test_what_all_processes_find_is_told_by_the_main_one():
    _, told, everything = two("-m", "latentdc.distill", "quick.yaml", "ipc=0")
    assert len(told) == 1 and "rank 0: ipc is" in told[0], everything
    words = ["-m", "latentdc.distill", "quick.yaml", "distill.lr_z=1e38", "prior.clamp=false"]
    _, told, everything = two(*words)
    assert len(told) == 1 and "rank 0: the loss is nan at step 1" in told[0], everything


def test_our_own_error_in_one_process_keeps_its_traceback():
    code, told, everything = broken("ours", "1")
    assert code != 0 and "ZeroDivisionError: ours" in everything and len(told) == 0, everything


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_stopped_ends_the_run_within_the_silence(rank):
    began = time.monotonic()
    code, told, everything = broken("stopped", rank, silence=4)
    assert code != 0 and time.monotonic() - began < 60
    other = 1 - int(rank)
    line = f"latentdc: error: rank {other}: rank {rank} has given no sign of life for 4 seconds"
    assert len(told) == 1 and told[0].startswith(line), everything


def test_a_process_that_works_alone_for_longer_than_the_silence_does_not(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from latentdc import runtime\n"
        "accelerator = runtime.start(threads=1)\n"
        "print(runtime.main_alone(accelerator, lambda: time.sleep(6) or 'done'), flush=True)\n"
        "if not accelerator.is_main_process: time.sleep(6)\n"  # the main one has ended by then
    )
    code, told, everything = two("slow.py", silence=2)
    assert code == 0 and told == [], everything


def test_a_process_whose_errors_nobody_reads_ends_too():
    program = (
        "import os, threading, time\n"
        "from latentdc.heartbeat import _end_process\n"
        "reader, writer = os.pipe()\n"
        "os.dup2(writer, 2), os.close(writer), os.close(reader)\n"
        "threading.Thread(target=_end_process, args=(0, 'alone'), daemon=True).start()\n"
        "time.sleep(5)\n"
        "os._exit(3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 1


def test_a_process_that_does_not_start_does_not_hold_up_the_others():
    code, told, everything = broken("late", "1", silence=8)
    line = "latentdc: error: rank 0: the other processes have not all started after 30 seconds"
    assert code != 0 and len(told) == 1 and told[0].startswith(line), everything


def test_processes_that_have_done_their_work_end_in_order(tmp_path):
    (tmp_path / "short.py").write_text(
        "from latentdc import runtime\n"
        "runtime.start(threads=1)\nruntime.broadcast(1)\n"  # gloo aborted every second one
    )
    for _ in range(4):
        code, _, everything = two("short.py")
        assert code == 0, everything


def test_nodes_without_a_shared_folder_are_told_at_the_start(tmp_path):
    code, told, everything = broken("elsewhere", "1")
    assert code != 0 and len(told) == 1, everything
    assert "runs/quick of the main process is not what rank 1 on " in told[0]
    assert f"({tmp_path}/node/runs/quick) sees there; all nodes need one shared folder" in told[0]
    assert not Path("runs").exists()


def test_two_processes_hold_one_folder_together():
    code, told, everything = two("-m", "latentdc.distill", "quick.yaml")
    assert code == 0 and told == [], everything
    assert Path("runs/quick/synthetic").is_dir()
    assert [path.name for path in Path("runs").iterdir()] == ["quick"]


@pytest.mark.parametrize("silence", ["soon", "inf"])
def test_a_silence_that_is_no_time_is_told_once(silence):
    code, told, everything = two("-m", "latentdc.distill", "quick.yaml", silence=silence)
    assert code != 0 and len(told) == 1, everything
    assert "LATENTDC_SILENCE is a number of seconds" in told[0]
