import weakref

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from latentdc.draws import generator, global_draws
from latentdc.networks.convnet import ConvNet
from latentdc.objectives.unroll import FORMS, constant, replayed, unrolled

LR = torch.tensor(0.3, dtype=torch.float64)


def student(seed: int) -> ConvNet:
    with global_draws(seed):
        return ConvNet(depth=2, width=4, num_classes=2, resolution=8).double()


def problem(steps: int):
    """Losses of a small ConvNet, its start, a target near it, and four images, in float64."""
    network = student(0)
    start = {name: p.detach() for name, p in network.named_parameters()}
    source = generator(1)
    target = {
        n: w + 0.1 * torch.randn(w.shape, generator=source, dtype=w.dtype) for n, w in start.items()
    }
    images = torch.randn(4, 3, 8, 8, generator=source, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])

    def loss(rows):
        def of(weights, images):
            return F.cross_entropy(functional_call(network, weights, (images[rows],)), labels[rows])

        return of

    orders = [torch.tensor(rows) for rows in ([0, 2, 3], [1, 3], [0, 1, 2])]
    return [loss(orders[m % 3]) for m in range(steps)], start, target, images


def distance_left(losses, start, target, images, lr) -> torch.Tensor:
    """The loss of MTT written out, without any graph over the steps."""
    weights = start
    for loss in losses:
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        loss(leaves, images).backward()
        weights = {name: (w - lr * w.grad).detach() for name, w in leaves.items()}
    left = sum((weights[n] - target[n]).square().sum() for n in start)
    return left / sum((start[n] - target[n]).square().sum() for n in start)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_share_of_the_way_to_the_expert_that_is_left(form):
    losses, start, target, images = problem(3)
    matched = FORMS[form](losses, start, target, images, LR)
    torch.testing.assert_close(matched.loss, distance_left(losses, start, target, images, LR))
    assert not matched.loss.requires_grad


@pytest.mark.parametrize("form", ["unrolled", "replayed"])
def test_the_exact_forms_agree_with_finite_differences(form):
    losses, start, target, images = problem(3)
    matched = FORMS[form](losses, start, target, images, LR)
    h = 1e-6
    source = generator(2)
    for _ in range(4):
        way = torch.randn(images.shape, generator=source, dtype=torch.float64)
        ends = [distance_left(losses, start, target, images + s * h * way, LR) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close((matched.images * way).sum(), slope, rtol=1e-6, atol=1e-9)
    ends = [distance_left(losses, start, target, images, LR + s * h) for s in (1, -1)]
    torch.testing.assert_close(matched.lr, (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-9)


def test_replaying_the_steps_gives_the_gradient_of_unrolling_them():
    one, other = (form(*problem(5), LR) for form in (unrolled, replayed))
    torch.testing.assert_close(one.images, other.images)
    torch.testing.assert_close(one.lr, other.lr)


def test_the_constant_form_is_tesla_s_formula_with_its_factor_of_two():
    losses, start, target, images = problem(3)
    weights, total = start, {name: torch.zeros_like(w) for name, w in start.items()}
    expected = torch.zeros_like(images)
    path = []
    for loss in losses:
        path.append({name: w.clone().requires_grad_() for name, w in weights.items()})
        gradient = torch.autograd.grad(loss(path[-1], images), list(path[-1].values()))
        total = {name: t + g for (name, t), g in zip(total.items(), gradient, strict=True)}
        weights = {n: start[n] - LR * total[n] for n in start}
    whole = sum((start[n] - target[n]).square().sum() for n in start)
    for loss, leaves in zip(losses, path, strict=True):
        pixels = images.clone().requires_grad_()
        gradient = torch.autograd.grad(
            loss(leaves, pixels), list(leaves.values()), create_graph=True
        )
        scalar = sum(
            ((LR * (target[n] - start[n]) + LR**2 * total[n]) * g).sum()
            for n, g in zip(start, gradient, strict=True)
        )
        expected += torch.autograd.grad(2 * scalar / whole, pixels)[0]
    matched = constant(losses, start, target, images, LR)
    torch.testing.assert_close(matched.images, expected)
    left = sum((total[n] * (weights[n] - target[n])).sum() for n in start)
    torch.testing.assert_close(matched.lr, -2 * left / whole)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_constant_form_holds_the_weights_of_one_inner_step_at_a_time(bf16):
    losses, start, target, images = problem(6)
    start, target = ({n: w.float() for n, w in weights.items()} for weights in (start, target))
    seen, most = [], 0

    def watched(loss):
        def of(weights, images):
            nonlocal most
            seen.append(weakref.ref(weights["linear.weight"]))
            most = max(most, sum(ref() is not None for ref in seen))
            return loss(weights, images)

        return of

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        constant([watched(loss) for loss in losses], start, target, images.float(), LR.float())
        assert len(seen) == 11 and most <= 2  # of the step before, at most


@pytest.mark.parametrize("form", FORMS)
def test_in_bf16_the_gradient_is_that_of_float64_but_for_rounding(form):
    losses, start, target, images = problem(3)
    wanted = FORMS[form](losses, start, target, images, LR / 10)
    start, target = ({n: w.float() for n, w in weights.items()} for weights in (start, target))
    with torch.autocast("cpu", torch.bfloat16):
        matched = FORMS[form](losses, start, target, images.float(), LR.float() / 10)
    both = torch.stack([matched.images.double(), wanted.images]).flatten(1)
    assert float(F.cosine_similarity(*both, dim=0)) > 0.9  # these feature maps are tiny
    torch.testing.assert_close(matched.lr.double(), wanted.lr, rtol=0.1, atol=0)


def test_the_constant_form_is_exact_for_one_step():
    exact, approximate = (form(*problem(1), LR) for form in (unrolled, constant))
    torch.testing.assert_close(exact.images, approximate.images)
    torch.testing.assert_close(exact.lr, approximate.lr)


def test_the_constant_form_is_exact_where_gradients_do_not_depend_on_the_weights():
    images = torch.randn(3, 2, generator=generator(3), dtype=torch.float64)
    start = {"w": torch.zeros(2, dtype=torch.float64)}
    target = {"w": torch.ones(2, dtype=torch.float64)}
    losses = [lambda weights, x, m=m: (x[m].square() * weights["w"]).sum() for m in range(3)]
    exact, approximate = (f(losses, start, target, images, LR) for f in (unrolled, constant))
    torch.testing.assert_close(exact.images, approximate.images)
    # By hand: w_3 = -lr sum_m x_m^2, so dL/dx_m = -2 lr x_m * 2 (w_3 - 1) / 2.
    last = -LR * images.square().sum(0)
    torch.testing.assert_close(exact.images, -2 * LR * images * (last - 1))


def test_the_constant_form_is_off_over_several_steps_and_less_so_at_a_smaller_rate():
    errors = []
    for lr in (0.3, 0.03, 0.003):
        losses, start, target, images = problem(4)
        exact, near = (
            form(losses, start, target, images, torch.tensor(lr, dtype=torch.float64)).images
            for form in (unrolled, constant)
        )
        errors.append(float((exact - near).norm() / exact.norm()))
    assert errors[0] > 0.01 and errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5


@pytest.mark.parametrize("form", ["replayed", "constant"])
def test_two_passes_take_the_last_inner_step_once(form):
    losses, start, target, images = problem(4)
    taken = []

    def counted(number):
        def loss(weights, images):
            taken.append(number)
            return losses[number](weights, images)

        return loss

    FORMS[form]([counted(number) for number in range(4)], start, target, images, LR)
    again = [2, 1, 0] if form == "replayed" else [0, 1, 2]
    assert taken == [0, 1, 2, 3, *again]
