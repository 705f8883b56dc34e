import json
from dataclasses import asdict, replace

import pytest
import torch
from accelerate import Accelerator

from latentdc import checkpoint
from latentdc.methods import decode
from latentdc.methods.context import Context, State
from latentdc.methods.decode import settle_memory
from latentdc.methods.latents import initial_latents
from latentdc.methods.loop import Work, latent_gradient
from latentdc.methods.matching import match
from latentdc.methods.rates import make_optimizer
from latentdc.methods.real import RealBatches
from latentdc.priors.memory import Plan, choose_plan
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Matching, Trim
from tests.methods import setup
from tests.priors import small

TIGHT = 300_000  # bytes: less than the activations of six images, more than those of a step


def kept(folder):
    return json.loads((checkpoint.whole(folder / "checkpoints")[-1] / "state.json").read_text())


def test_auto_keeps_everything_where_it_fits(capsys):
    prior = small.prior(memory="auto")
    settled, facts = settle_memory(prior, 6, None, Accelerator(cpu=True))
    assert facts == asdict(Plan("fast")) and settled.plan == Plan("fast")
    assert prior.plan is None and settled.denoiser is prior.denoiser
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


@pytest.mark.parametrize(
    ("kind", "free", "memory", "group"),
    [
        ("dm", 900_000, "fast", 2),  # a class of two images at a time
        ("dm", 600_000, "mixed", 2),
        ("dc", 600_000, "mixed", 2),
        ("dc loops", 600_000, "mixed", None),  # which sees all classes together
        ("mtt", 600_000, "mixed", None),
    ],
)
def test_what_auto_chooses_between_everything_and_nothing_moves_latents_alike(
    kind, free, memory, group, monkeypatch, tmp_path, capsys
):
    def run(where, available):
        monkeypatch.setattr(decode, "free_bytes", lambda device: available)
        return setup.run(
            tmp_path / where, prior=small.prior(steps=2, memory="auto"), kind=kind, steps=2
        )

    fast, found = run("fast", 10**12), run("auto", free)
    assert f"memory: {memory} (" in capsys.readouterr().err
    facts = kept(tmp_path / "auto")
    assert (facts["memory"], facts["group"]) == (memory, group)
    for name in ("z", "c"):
        one, other = getattr(fast, name), getattr(found, name)
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


class Pull:
    """Half the squared distance to a constant."""

    scope = "class"
    sums_classes = True

    def accumulate(self, step, synthetic, labels, real):
        synthetic.grad = synthetic.detach() - 0.5
        return synthetic.grad.square().sum() / 2


@pytest.mark.parametrize("free", [600_000, 900_000])
def test_gradients_of_classes_one_after_the_other_are_equal_to_1e_6(free):
    data = setup.dataset()

    def found(plan):
        prior = small.prior(steps=2)
        latents = initial_latents(data, prior, range(3), ipc=2, seed=0)
        latents = replace(
            latents,
            **{
                name: tuple(p.detach().double().requires_grad_() for p in getattr(latents, name))
                for name in ("z", "c", "noise")
            },
        )
        small.in_double(prior).plan = plan
        optimizer = make_optimizer(latents, Matching())
        real = RealBatches(data, range(3), batch=4, seed=0)
        work = Work(latents, prior, Pull(), real, optimizer, Accelerator(), lambda _: (0, 1, 2))
        loss = latent_gradient(work, 0, latents)
        return [loss, *(part.grad for part in (*latents.z, *latents.c))]

    plan = choose_plan(small.prior(steps=2).needs(), 6, free, ipc=2)
    assert plan.group == 2
    for one, other in zip(found(Plan("fast")), found(plan), strict=True):
        assert (one - other).norm() <= 1e-6 * one.norm()


def test_the_share_that_is_trimmed_is_that_of_all_classes(monkeypatch):
    def trimmed(available):
        monkeypatch.setattr(decode, "free_bytes", lambda device: available)
        seen = []
        match(
            setup.dataset(20),
            small.prior(steps=2, memory="auto"),
            setup.objective(batch=8),
            Matching(steps=3, lr_z=0.1, lr_c=0.1, trim=Trim(share=0.4, refresh=1)),
            Context(ipc=2, on_step=lambda step: seen.append(step["trimmed"])),
        )
        return seen

    whole = trimmed(10**12)
    assert min(whole) > 0 and trimmed(900_000) == pytest.approx(whole)


def saved(processes):
    facts = {"processes": processes, "memory": "low", "chunk": 1}
    return State(1, facts, (), lambda classes: {}, {})


def test_another_number_of_processes_measures_anew():
    prior = small.prior(memory="auto")
    _, facts = settle_memory(prior, 6, saved(processes=2), Accelerator(cpu=True))
    assert facts["memory"] == "fast"


def test_a_mode_that_was_asked_for_is_kept_and_pixels_have_none():
    low, state = small.prior(memory="low", chunk=3), saved(processes=1)
    assert settle_memory(low, 6, state, Accelerator(cpu=True))[1] == asdict(Plan("low", 3))
    pixels = PixelPrior(8)
    assert settle_memory(pixels, 6, None, Accelerator(cpu=True)) == (pixels, {})


def test_a_prior_of_two_matchings_is_measured_for_each(monkeypatch, capsys):
    prior = small.prior(steps=2, memory="auto")

    def matched(free):
        monkeypatch.setattr(decode, "free_bytes", lambda device: free)
        match(
            setup.dataset(),
            prior,
            setup.objective(),
            Matching(steps=1, lr_z=0.1, lr_c=0.1),
            Context(ipc=2),
        )
        return capsys.readouterr().err

    assert "memory: fast (" in matched(10**12) and prior.plan is None
    assert "memory: low (" in matched(TIGHT) and prior.plan is None
