import os
import signal
import threading

import psutil
import pytest
import torch

from latentdc import launcher, ranks, runtime
from latentdc.errors import InputError
from latentdc.runtime import use_threads


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_threads_of_the_recipe_are_used():
    runtime.start(threads=3)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("local", "expected"), [(None, 6), (1, 6), (2, 3), (4, 1), (9, 1)])
def test_the_local_processes_share_the_cores(monkeypatch, local, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    if local is None:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert use_threads(None) == torch.get_num_threads() == expected


def test_a_precision_that_the_launcher_did_not_set_is_refused():
    with pytest.raises(InputError, match=r"precision=bf16, .* runs in no; .*mixed_precision bf16"):
        runtime.start(threads=1, precision="bf16")
    runtime.start(threads=1, precision="no")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ACCELERATE_USE_FSDP", "true", "asks for FSDP.*--multi_gpu"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "asks for DeepSpeed.*--multi_gpu"),
        ("ACCELERATE_USE_SAGEMAKER", "true", "asks for SageMaker's own library.* of NO there"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", r"accumulation_steps=4.*leave it at 1"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", r"dynamo_backend=INDUCTOR.*prior\.compile=true"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "mixed_precision=fp8.*take bf16"),
        ("ACCELERATE_MIXED_PRECISION", "BF16", "mixed_precision=BF16 .* no, bf16 and fp16; take"),
        ("ACCELERATE_MIXED_PRECISION", "", "mixed_precision= .* no, bf16 and fp16; take"),
        ("ACCELERATE_TORCH_DEVICE", "gpu", r"TORCH_DEVICE=gpu is no device here .*; unset it\."),
        ("ACCELERATE_TORCH_DEVICE", "hpu", r"TORCH_DEVICE=hpu is no device here .*; unset it\."),
        ("ACCELERATE_TORCH_DEVICE", "meta", r"TORCH_DEVICE=meta is no device here .*; unset it\."),
    ],
)
def test_what_the_launcher_asks_for_in_vain_is_refused(monkeypatch, variable, value, told):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=told):
        runtime.start(threads=1)


def test_sagemaker_is_taken_where_it_divides_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_SAGEMAKER", "true")
    monkeypatch.setenv("ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE", "NO")
    runtime.start(threads=1)


def test_devices_of_xla_are_refused(monkeypatch):
    monkeypatch.setattr(launcher, "is_torch_xla_available", lambda: True)
    with pytest.raises(InputError, match=r"torch_xla is installed, .* set USE_TORCH_XLA=0"):
        runtime.start(threads=1)


class Parent:
    def __init__(self, line: str) -> None:
        self.line = line

    def cmdline(self) -> list[str]:
        return self.line.split()


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("python accelerate launch --cpu --num_processes 2 -m latentdc.distill x.yaml", 2),
        ("python accelerate-launch --num-processes=16 -m latentdc.distill x.yaml", 16),
        ("python accelerate launch -m latentdc.distill x.yaml", 1),
        ("bash run.sh --num_processes 2", 1),
    ],
)
def test_fewer_processes_than_asked_for_are_told_with_the_way_to_start_them(
    monkeypatch, capsys, line, asked
):
    ranks.warn.cache_clear()
    monkeypatch.setattr(psutil, "Process", lambda _: Parent(line))
    runtime.start(threads=1)
    told = capsys.readouterr().err
    if asked == 1:
        assert told == ""
    else:
        assert f"warning: {asked} processes were asked for and 1 runs; " in told
        assert f"torchrun --nproc_per_node {asked} -m latentdc.distill" in told


def test_gradients_that_the_launcher_is_asked_to_gather_are_refused(monkeypatch):
    line = "python accelerate launch --cpu --gradient_accumulation_steps 4 -m latentdc.distill"
    monkeypatch.setattr(psutil, "Process", lambda _: Parent(line))
    with pytest.raises(InputError, match="gradient_accumulation_steps=4, and latentdc takes the"):
        runtime.start(threads=1)


def test_processes_that_the_launcher_did_not_start_are_refused():
    with pytest.raises(InputError, match=r"processes=2, but 1 run; .*2"):
        runtime.start(threads=1, processes=2)
    runtime.start(threads=1, processes=1)


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(runtime, "get_available_trackers", lambda: [])
    with pytest.raises(InputError, match=r"trackers: tensorbord cannot be used here; .* none"):
        runtime.start(threads=1, trackers=["tensorbord"])


@pytest.mark.parametrize("given", ["", "abc", "0", "-5", "0.5", "nan", "inf", "1e400", "5m", "5,0"])
def test_a_silence_that_is_no_number_of_seconds_is_refused(monkeypatch, given):
    monkeypatch.setenv("LATENTDC_SILENCE", given)
    with pytest.raises(InputError, match="LATENTDC_SILENCE is a number of seconds from 1 on"):
        runtime.start(threads=1)


def test_processes_that_would_each_work_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    with pytest.raises(InputError, match=r"2 processes were started .* each for the only one"):
        runtime.start(threads=1)


def test_an_environment_that_accelerate_cannot_use_is_refused(monkeypatch):
    monkeypatch.setattr(runtime, "Accelerator", no_accelerator)
    with pytest.raises(InputError, match=r"Accelerate cannot start as .* says: no such mode"):
        runtime.start(threads=1)


def no_accelerator(**_: object) -> None:
    raise ValueError("no such mode")


def test_the_main_process_decides_and_hands_its_result_on():
    accelerator = runtime.start(threads=1)
    assert runtime.broadcast({"kept": True}) == {"kept": True}
    assert runtime.main_first(accelerator, lambda: [1, 2]) == [1, 2]
    assert runtime.main_first(accelerator, lambda: None) is None


def test_what_the_main_process_refuses_is_refused():
    def refuse():
        raise InputError("no such split")

    with pytest.raises(InputError, match="no such split"):
        runtime.main_first(runtime.start(threads=1), refuse)


def test_signals_that_come_together_are_one_request_to_stop(monkeypatch):
    ended = []
    before = signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    monkeypatch.setattr(runtime, "_TOGETHER", 0.5)
    try:
        with runtime.stop_requests(runtime.start()) as requested:
            assert not requested()
            # From a scheduler, and from the launcher that it sent one too.
            handed_on = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM])
            handed_on.start()
            os.kill(os.getpid(), signal.SIGTERM)
            handed_on.join()
            assert requested() and not ended
            os.kill(os.getpid(), signal.SIGTERM)
            assert ended == [True]
    finally:
        signal.signal(signal.SIGTERM, before)
