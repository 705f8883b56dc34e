from types import SimpleNamespace

import pytest
import torch

from latentdc import runtime
from latentdc.errors import InputError
from latentdc.modes import in_plain_modes, precision_of, precision_put_back, use_precision
from latentdc.priors import load
from latentdc.priors.load import warn_if_slow
from tests.priors import small


def accelerator(device: str = "cuda", mixed_precision: str = "no") -> SimpleNamespace:
    return SimpleNamespace(device=torch.device(device), mixed_precision=mixed_precision)


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def unchanged():
    before = flags()
    yield
    assert flags() == before


def test_tf32_is_set_recorded_and_put_back():
    before = flags()
    assert precision_of(accelerator()) == "no"
    with precision_put_back():
        use_precision("tf32", accelerator())
        assert flags() == (True, True) and precision_of(accelerator()) == "tf32"
        use_precision("no", accelerator())
        assert precision_of(accelerator()) == "no"
    assert flags() == before


def test_tf32_is_put_back_after_an_error():
    @precision_put_back()
    def breaks() -> None:
        use_precision("tf32", accelerator())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks()


def test_tf32_is_put_back_when_the_last_of_two_threads_has_ended():
    before, first, second = flags(), precision_put_back(), precision_put_back()
    first.__enter__()
    use_precision("tf32", accelerator())
    second.__enter__()
    first.__exit__(None, None, None)
    assert flags() == (True, True)  # the second one began so
    second.__exit__(None, None, None)
    assert flags() == before


def test_tf32_that_a_caller_set_by_torchs_newer_names_is_recorded_and_put_back():
    products = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before = [one.fp32_precision for one in products]
    for one in products:
        one.fp32_precision = "tf32" if one is products[0] else "ieee"
    try:
        with precision_put_back():
            assert precision_of(accelerator()) == "tf32"
            use_precision("no", accelerator())
            assert precision_of(accelerator()) == "no"
        assert [one.fp32_precision for one in products] == ["tf32", "ieee", "ieee"]
    finally:
        for one, precision in zip(products, before, strict=True):
            one.fp32_precision = precision


@pytest.mark.parametrize("mode", ["highest", "high", "medium"])
def test_a_matmul_precision_of_the_caller_can_be_read_after_a_call_in_plain_modes(mode):
    @in_plain_modes
    @precision_put_back()
    def run() -> None:
        assert precision_of(accelerator()) == ("no" if mode == "highest" else "tf32")

    try:
        torch.set_float32_matmul_precision(mode)
        run()
        assert torch.get_float32_matmul_precision() == mode
    finally:
        torch.set_float32_matmul_precision("highest")


def test_tf32_is_float32_on_a_gpu_alone():
    with pytest.raises(InputError, match="GPUs of NVIDIA have, and this run computes on cpu"):
        runtime.start(threads=1, precision="tf32")
    with pytest.raises(InputError, match=r"tf32, but Accelerate runs in bf16; .*_precision no"):
        use_precision("tf32", accelerator(mixed_precision="bf16"))
    with precision_put_back():
        use_precision("tf32", accelerator())
        assert precision_of(accelerator("cpu")) == "no"
        assert precision_of(accelerator(mixed_precision="bf16")) == "bf16"


def test_a_large_prior_in_float32_on_a_gpu_is_warned_about(monkeypatch, capsys):
    prior = small.prior(steps=2)
    warn_if_slow(prior, torch.device("cuda"), "no")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(load, "LARGE", 100)
    for device, precision in (("cpu", "no"), ("cuda", "bf16"), ("cuda", "tf32")):
        warn_if_slow(prior, torch.device(device), precision)
    assert capsys.readouterr().err == ""
    warn_if_slow(prior, torch.device("cuda"), "no")
    told = capsys.readouterr().err
    assert (
        "8 times the hours" in told and "--mixed_precision bf16, or write precision: tf32" in told
    )
    assert told.count("\n") == 1
