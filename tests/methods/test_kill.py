"""A run killed at any time and started again ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from latentdc.distill import main
from latentdc.evaluate import evaluate
from latentdc.methods.log import StepLog
from latentdc.methods.sampling import ClassSampler
from tests.methods.command import RUN, contents, fails, write_recipe

ROOT = Path(__file__).parents[2]
STEPS = ["distill.steps=60", "distill.checkpoint_every=5", "data.resolution=16", "ipc=3"]
PATIENCE = 120  # seconds for a process to start, or to end


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)


def start(log: Path, *overrides: str, launcher: Sequence[str] = ()) -> subprocess.Popen:
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *launcher, "latentdc.distill", "quick.yaml", *STEPS, *overrides],
            env={
                **os.environ,
                "ACCELERATE_USE_CPU": "true",
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_for_a_checkpoint(process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not any(RUN.glob("checkpoints/step-????????")):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.002)


def test_sampling_that_is_asked_to_end_keeps_what_is_sampled(capsys, monkeypatch):
    sample, prior = ClassSampler.sample, "prior={kind: diffusion, weights: digits, steps: 2}"
    kept = ["sampling.batch=4", "sampling.checkpoint_seconds=1000"]
    words = ["method.kind=sampling", prior, "data.resolution=16", *kept]

    def asked(self, batch, finished):
        os.kill(os.getpid(), signal.SIGTERM)
        return sample(self, batch, finished)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ClassSampler, "sample", asked)
    told = fails(capsys, 143, *words)
    assert "stopped by SIGTERM after 4 of 10 samples, which are kept; start the run again" in told
    assert [path.name for path in (RUN / "checkpoints").iterdir()] == ["step-00000004"]
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setattr(ClassSampler, "sample", sample)
    main(["quick.yaml", *words])
    main(["quick.yaml", *words, "output=whole"])
    latents = "synthetic/latents.safetensors"
    assert (RUN / latents).read_bytes() == (Path("whole") / latents).read_bytes()


def test_a_run_that_is_asked_to_end_keeps_the_step_it_is_at(capsys, monkeypatch):
    record, steps = StepLog.record, ["distill.steps=7", "distill.checkpoint_every=100"]

    def asked(self, *given, **others):
        record(self, *given, **others)
        if self.bar.n == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(StepLog, "record", asked)
    told = fails(capsys, 143, *steps)
    assert "stopped by SIGTERM after step 3 of 7, which is kept; start the run again" in told
    assert [path.name for path in (RUN / "checkpoints").iterdir()] == ["step-00000003"]
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setattr(StepLog, "record", record)
    main(["quick.yaml", *steps])
    main(["quick.yaml", *steps, "output=whole"])
    assert contents(RUN / "synthetic") == contents(Path("whole") / "synthetic")


@pytest.mark.slow
def test_two_processes_that_are_asked_to_end_go_on_as_one(tmp_path):
    log = tmp_path / "log"
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    process = start(log, "distill.checkpoint_every=1", launcher=torchrun)
    wait_for_a_checkpoint(process, log)
    workers = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *workers):  # a scheduler does so, and the launcher hands its own on
        one.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    told = [line for line in log.read_text().splitlines() if "stopped by SIGTERM" in line]
    assert len(told) == 1, log.read_text()
    kept = max(path.name for path in (RUN / "checkpoints").iterdir())
    assert f"after step {int(kept[5:])} of 60" in told[0]
    main(["quick.yaml", *STEPS])
    lines = (RUN / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(60))


@pytest.mark.slow
@pytest.mark.parametrize("classes", ["null", "3"])
def test_a_killed_run_ends_with_the_bitwise_same_set_as_one_that_was_not(tmp_path, classes):
    log, override = tmp_path / "log", f"distill.classes_per_step={classes}"
    process = start(log, override)
    wait_for_a_checkpoint(process, log)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (RUN / "synthetic").exists(), "it was too fast to be killed; give it more steps"
    again = start(log, override)
    assert again.wait(PATIENCE) == 0, log.read_text()
    main(["quick.yaml", *STEPS, override, "output=whole"])
    continued, whole = contents(RUN / "synthetic"), contents(Path("whole") / "synthetic")
    assert continued.keys() == whole.keys()
    assert [path for path in whole if continued[path] != whole[path]] == []
    steps = (RUN / "metrics.jsonl").read_text().splitlines()
    assert [line.split(",")[0] for line in steps] == [f'{{"step": {i}' for i in range(60)]


@pytest.mark.smoke
def test_an_evaluation_that_goes_on_trains_only_the_rows_that_are_missing(monkeypatch, capsys):
    trained = []
    train = evaluate.train_together

    def counted(*args, **options):
        trained.extend(options["seeds"])
        return train(*args, **options)

    monkeypatch.setattr(evaluate, "train_together", counted)
    rows = "evaluate.rows=[distilled, random]"
    main(["quick.yaml", rows])
    results, table = (RUN / "results.json").read_bytes(), capsys.readouterr().out
    assert sorted(trained) == [0, 0, 1, 1] and len(contents(RUN / "trainings")) == 4
    next(RUN.glob("trainings/*-1.json")).unlink()
    trained.clear()
    main(["quick.yaml", rows])
    assert trained == [1]
    assert (RUN / "results.json").read_bytes() == results
    assert capsys.readouterr().out == table
    main(["quick.yaml", rows, "evaluate.seeds=3"])
    assert sorted(trained) == [1, 2, 2]
