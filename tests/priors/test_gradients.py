import pytest
import torch

from latentdc.priors.gradients import run_steps

SOURCE = torch.Generator().manual_seed(0)
WEIGHTS = torch.randn(3, 4, 4, dtype=torch.float64, generator=SOURCE)


def steps():
    return [lambda x, a, b, w=w: torch.tanh(x @ w + a) * b for w in WEIGHTS]


def leaves():
    source = torch.Generator().manual_seed(1)
    shapes = (2, 4), (2, 4), (4,)
    return [torch.randn(s, dtype=torch.float64, generator=source).requires_grad_() for s in shapes]


def by_hand(x, a, b, gradient):
    """The chain rule written out."""
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
    return gradient, to_a, to_b


@pytest.mark.parametrize("memory", ["fast", "low", "replay"])
def test_every_way_follows_the_chain_rule(memory):
    x, a, b = leaves()
    made = run_steps(steps(), x, (a, b), memory=memory)
    gradient = torch.arange(8, dtype=torch.float64).view(2, 4)
    found = torch.autograd.grad(made, (x, a, b), gradient)
    with torch.no_grad():
        for one, other in zip(found, by_hand(x, a, b, gradient), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_replay_gives_gradients_to_those_who_want_them(wanted):
    inputs = [t.requires_grad_(i in wanted) for i, t in enumerate(leaves())]
    made = run_steps(steps(), inputs[0], tuple(inputs[1:]), memory="replay")
    made.sum().backward()
    with torch.no_grad():
        expected = by_hand(*inputs, torch.ones(2, 4, dtype=torch.float64))
    for index, tensor in enumerate(inputs):
        if index in wanted:
            torch.testing.assert_close(tensor.grad, expected[index])
        else:
            assert tensor.grad is None


@pytest.mark.parametrize(("memory", "runs"), [("fast", 3), ("low", 6), ("replay", 6)])
def test_steps_run_once_or_once_more_in_backward(memory, runs):
    calls = []
    counted = [lambda *t, s=s: calls.append(0) or s(*t) for s in steps()]
    x, a, b = leaves()
    made = run_steps(counted, x, (a, b), memory=memory)
    assert len(calls) == 3
    made.sum().backward()
    assert len(calls) == runs


def test_replay_keeps_what_enters_each_step_and_nothing_else():
    kept = []
    x, a, b = leaves()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        run_steps(steps(), x, (a, b), memory="replay")
    assert [t.shape for t in kept] == [x.shape] * 3 + [a.shape, b.shape]


def test_replay_leaves_out_what_is_not_there():
    x = leaves()[0]
    made = run_steps([lambda x, none: x**2, lambda x, none: 3 * x], x, (None,), memory="replay")
    made.sum().backward()
    torch.testing.assert_close(x.grad, 6 * x.detach())


def test_a_step_that_ignores_x_ends_the_way_back():
    x, a, _ = leaves()
    made = run_steps([lambda x, a: x * 2, lambda x, a: a**2], x, (a,), memory="replay")
    made.sum().backward()
    assert not x.grad.any()
    torch.testing.assert_close(a.grad, 2 * a.detach())


def test_replay_computes_again_in_the_precision_of_the_forward_pass():
    seen = []

    def step(x):
        seen.append((x @ x.T).dtype)
        return x * 2

    x = torch.ones(2, 2).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = run_steps([step], x, (), memory="replay")
    made.sum().backward()
    assert seen == [torch.bfloat16] * 2
