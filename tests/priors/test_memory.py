import pytest
import torch

from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.memory import (
    Needs,
    Plan,
    choose_plan,
    describe_plan,
    fixed_plan,
    free_bytes,
    kept_bytes,
    run_steps,
)
from tests.priors import small


def test_kept_bytes_are_those_of_the_tensors_that_backward_reads():
    x, weight = torch.ones(10, 10, requires_grad=True), torch.nn.Parameter(torch.ones(10, 10))
    assert kept_bytes(lambda: x.exp().sin() @ weight) == 2 * 400  # exp's result, sin's argument
    assert kept_bytes(lambda: (x @ x).cos() + x) == 2 * 400  # x, once; cos's argument


def test_everything_is_kept_where_it_fits_in_its_share():
    needs = Needs(whole=100, largest=20)
    assert choose_plan(needs, images=6, free=1000) == Plan("fast")
    assert choose_plan(needs, images=7, free=1000) == Plan("low", 7)  # 7 * 20 fit
    assert choose_plan(needs, images=70, free=1000) == Plan("low", 30)
    assert choose_plan(needs, images=7, free=1) == Plan("low", 1)


def test_a_choice_of_ones_own_is_taken_as_it_is():
    assert fixed_plan("auto", 10) is None
    assert fixed_plan("fast", 10) == Plan("fast")
    assert fixed_plan("low", 3) == Plan("low", 3)
    assert Plan("fast").together(7) == 7 and Plan("low", 3).together(7) == 3


def test_the_line_names_mode_images_and_sizes():
    line = describe_plan(Plan("low", 30), Needs(2_000_000, 1), images=70, free=10**9)
    assert line == "low (30 at a time) for 70 images of 2 MB each, 1.0 GB free"


@pytest.mark.parametrize("options", [{}, {"skip": "mean"}])
def test_needs_foresee_what_a_whole_decode_keeps(options):
    prior = small.prior(steps=5, **options)
    z = torch.zeros(1, *prior.latent_shape, requires_grad=True)
    c = prior.condition(torch.tensor([0])).detach().requires_grad_()
    really = kept_bytes(lambda: prior.decode(z, c, torch.zeros_like(z)))
    assert prior.needs().whole == pytest.approx(really, rel=0.1)
    space = AutoencoderPrior(small.autoencoder(), resolution=8)
    assert space.needs().whole == space.needs().largest == kept_bytes(lambda: space.decode(z))


def test_processes_of_a_machine_share_its_memory(monkeypatch):
    alone = free_bytes(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_bytes(torch.device("cpu")) == pytest.approx(alone / 4, rel=0.2)


WEIGHTS = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("memory", "runs"), [("fast", 3), ("low", 6)])
def test_both_ways_follow_the_chain_rule_and_run_steps_once_or_once_more(memory, runs):
    calls = []
    draws = torch.Generator().manual_seed(1)
    x, a, b = (
        torch.randn(s, dtype=torch.float64, generator=draws).requires_grad_()
        for s in ((2, 4), (2, 4), (4,))
    )
    steps = [lambda x, w=w: calls.append(0) or torch.tanh(x @ w + a) * b for w in WEIGHTS]
    made = run_steps(steps, x, memory=memory)
    assert len(calls) == 3
    gradient = torch.arange(8, dtype=torch.float64).view(2, 4)
    found = torch.autograd.grad(made, (x, a, b), gradient)
    assert len(calls) == runs
    with torch.no_grad():
        xs, tanhs = [x], []
        for w in WEIGHTS:
            tanhs.append(torch.tanh(xs[-1] @ w + a))
            xs.append(tanhs[-1] * b)
        to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
        for w, tanh in zip(WEIGHTS.flip(0), tanhs[::-1], strict=True):
            to_b += (gradient * tanh).sum(0)
            before = gradient * b * (1 - tanh**2)
            to_a += before
            gradient = before @ w.T
    torch.testing.assert_close(found, (gradient, to_a, to_b))


def test_a_step_is_computed_again_in_the_precision_of_the_forward_pass():
    seen = []
    x = torch.ones(2, 2).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = run_steps([lambda x: seen.append((x @ x.T).dtype) or x * x], x, memory="low")
    made.sum().backward()
    assert seen == [torch.bfloat16] * 2
