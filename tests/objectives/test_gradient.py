import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from latentdc.errors import InputError
from latentdc.objectives import base
from latentdc.objectives.gradient import (
    DISTANCES,
    gradient_matching,
    match_gradients,
    real_gradient,
    rowwise_cosine,
    squared_error,
    whole_cosine,
)


def images(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def student():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.Softplus(), nn.Flatten(), nn.Linear(16, 3)
        ).double()


def test_a_student_without_rows_to_compare_is_refused():
    network = nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 3, 16), nn.Flatten()).double()
    real, synthetic = images(2, 3, 4, 4), images(1, 3, 4, 4, seed=1)
    with pytest.raises(InputError, match=r"'rowwise' compares linear layers .* take cosine or mse"):
        gradient_matching(network, real, synthetic, 1)
    assert gradient_matching(network, real, synthetic, 1, distance="mse").item() > 0


def test_the_loss_is_the_distance_of_the_two_gradients_written_out():
    network, real, synthetic = student(), images(6, 3, 4, 4), images(2, 3, 4, 4, seed=1)
    gradients = []
    for batch in (synthetic, real):
        network.zero_grad()
        cross_entropy(network(batch), torch.full((len(batch),), 1)).backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    expected = 0.0
    for a, b in zip(*gradients, strict=True):
        if a.ndim not in (2, 4):
            continue
        for x, y in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True):
            expected += 1 - (x @ y) / (x.norm() * y.norm() + 1e-6)
    loss = gradient_matching(network, real, synthetic, 1)
    torch.testing.assert_close(loss, torch.as_tensor(expected))


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_gradients_agree_with_finite_differences(distance):
    network, real = student(), images(3, 3, 4, 4)
    synthetic = images(1, 3, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: gradient_matching(network, real, s, 2, distance=distance), (synthetic,)
    )


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_equal_images_give_no_loss(distance):
    real = images(3, 3, 4, 4)
    loss = gradient_matching(student(), real, real.clone(), 0, distance=distance)
    assert loss.abs() < 1e-3  # the published 1e-6 beside small norms


def test_distances_have_hand_values():
    a, b = [torch.tensor([[3.0, 4.0], [1.0, 0.0]])], [torch.tensor([[3.0, 4.0], [0.0, 1.0]])]
    assert rowwise_cosine(a, b).item() == pytest.approx(1.0, abs=1e-5)  # rows: 0 and 1
    assert whole_cosine(a, b).item() == pytest.approx(1 - 25 / 26)
    assert squared_error(a, b).item() == pytest.approx(2.0)


def test_biases_and_norms_are_left_out_of_the_rowwise_distance():
    assert rowwise_cosine([torch.ones(4)], [-torch.ones(4)]).item() == 0


def test_gradients_that_the_rowwise_distance_leaves_out_are_not_computed():
    asked = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight.clone()

        @staticmethod
        def backward(ctx, gradient):
            asked.append(gradient.shape)
            return gradient

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x):
            return x + Watched.apply(self.bias)

    network, real, synthetic = student(), images(3, 3, 4, 4), images(2, 3, 4, 4, seed=1)
    shifted = nn.Sequential(*network, Shift())
    gradient_matching(shifted, real, synthetic.requires_grad_(), 0).backward(inputs=[synthetic])
    assert asked == []
    gradient_matching(shifted, real, synthetic, 0, distance="mse")
    assert len(asked) == 2  # of the real images, and of the synthetic ones


def test_gradients_reach_the_synthetic_images_alone():
    real, synthetic = images(3, 3, 4, 4).requires_grad_(), images(2, 3, 4, 4).requires_grad_()
    gradient_matching(student(), real, synthetic, 0).backward(inputs=[synthetic])
    assert real.grad is None and synthetic.grad.abs().sum() > 0


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_the_real_gradient_does_not_depend_on_how_images_are_cut(at_once, monkeypatch):
    monkeypatch.setattr(base, "PIXELS_CPU", 16 * at_once)
    network, real = student(), images(7, 3, 4, 4)
    weights = list(network.parameters())
    loss = cross_entropy(network(real), torch.full((7,), 2))
    for given, wanted in zip(
        real_gradient(network, weights, real, 2), torch.autograd.grad(loss, weights), strict=True
    ):
        torch.testing.assert_close(given, wanted)


def test_classes_are_summed():
    network, real = student(), images(4, 3, 4, 4).split(2)
    synthetic = images(3, 3, 4, 4, seed=1).split([1, 2])
    total = match_gradients(network, iter(real), synthetic, [2, 0], distance="mse")
    alone = [
        gradient_matching(network, real[i], synthetic[i], (2, 0)[i], distance="mse")
        for i in range(2)
    ]
    torch.testing.assert_close(total, alone[0] + alone[1])


class Attentive(nn.Module):
    """Attention by torch's fused function, as torchvision's transformers have it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.linear = nn.Linear(3, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(2).mT).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v)
        return self.linear(attended.transpose(1, 2).flatten(2).mean(1))


def test_gradients_pass_through_fused_attention_twice():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Attentive().double()
    real, synthetic = images(3, 3, 4, 4), images(2, 3, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: gradient_matching(network, real, s, 1), (synthetic,))
    fused = network(synthetic).sum()
    (slope,) = torch.autograd.grad(fused, network.qkv.weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"derivative .* not implemented"):
        slope.sum().backward()  # what would happen without the choice of kernel
