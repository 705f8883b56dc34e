import json

import torch
from accelerate import Accelerator

from latentdc import checkpoint
from latentdc.methods import decode
from latentdc.methods.context import State
from latentdc.methods.decode import settle_memory
from latentdc.priors.memory import Plan
from latentdc.priors.pixel import PixelPrior
from tests.methods import setup
from tests.priors import small

TIGHT = 300_000  # bytes: less than the activations of six images, more than those of a step


def kept(folder):
    return json.loads((checkpoint.whole(folder / "checkpoints")[-1] / "state.json").read_text())


def test_auto_keeps_everything_where_it_fits(capsys):
    prior = small.prior(memory="auto")
    facts = settle_memory(prior, 6, None, Accelerator(cpu=True))
    assert facts == {"memory": "fast", "chunk": None} and prior.plan == Plan("fast")
    assert capsys.readouterr().err.startswith(
        "latentdc: memory: fast (keeps all activations) for 6 images"
    )


def test_auto_recomputes_where_it_does_not_fit_and_a_continued_run_keeps_plan_and_bits(
    monkeypatch, capsys, tmp_path
):
    def auto():
        return small.prior(steps=2, memory="auto")

    monkeypatch.setattr(decode, "free_bytes", lambda device: TIGHT)
    whole = setup.run(tmp_path / "whole", prior=auto(), steps=2)
    assert capsys.readouterr().err.count("memory: low") == 1
    facts = kept(tmp_path / "whole")
    assert facts["memory"] == "low" and 1 <= facts["chunk"] < 6
    fast = setup.run(prior=small.prior(steps=2), steps=2)
    torch.testing.assert_close(whole.z, fast.z, rtol=1e-3, atol=1e-4)
    setup.run(tmp_path / "parts", prior=auto(), steps=1)
    monkeypatch.setattr(decode, "free_bytes", lambda device: 10**12)
    parts = setup.run(tmp_path / "parts", prior=auto(), steps=2)
    assert kept(tmp_path / "parts")["memory"] == "low"
    for name in ("images", "z", "c"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def saved(processes):
    facts = {"processes": processes, "memory": "low", "chunk": 1}
    return State(1, facts, (), lambda classes: {}, {})


def test_another_number_of_processes_measures_anew():
    facts = settle_memory(small.prior(memory="auto"), 6, saved(processes=2), Accelerator(cpu=True))
    assert facts["memory"] == "fast"


def test_a_mode_that_was_asked_for_is_kept_and_pixels_have_none():
    low, state = small.prior(memory="low", chunk=3), saved(processes=1)
    assert settle_memory(low, 6, state, Accelerator(cpu=True)) == {"memory": "low", "chunk": 3}
    assert settle_memory(PixelPrior(8), 6, None, Accelerator(cpu=True)) == {}
