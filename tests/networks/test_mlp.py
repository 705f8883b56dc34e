import pytest
import torch
from torch.nn import functional as F

from latentdc.errors import InputError
from latentdc.networks import build_network, check_network, new_network


def test_the_linear_student_is_a_matrix_and_a_bias():
    network = new_network("linear", num_classes=3, resolution=5, seed=0)
    x = torch.randn(4, 5)
    assert torch.equal(network.features(x), x)
    torch.testing.assert_close(network(x), x @ network.linear.weight.T + network.linear.bias)
    assert sum(p.numel() for p in network.parameters()) == 5 * 3 + 3


def test_the_mlp_has_two_hidden_layers_of_its_width():
    network = new_network("mlp@7", num_classes=3, resolution=5, seed=0)
    x = torch.randn(4, 5)
    a, b = network.trunk[0], network.trunk[2]
    hidden = (F.relu(x @ a.weight.T + a.bias) @ b.weight.T + b.bias).clamp(min=0)
    torch.testing.assert_close(network.features(x), hidden)
    assert hidden.shape == (4, 7) and network(x).shape == (4, 3)
    assert build_network("mlp", num_classes=2, resolution=5).linear.in_features == 512


@pytest.mark.parametrize("name", ["linear", "mlp@8"])
def test_a_gradient_can_be_differentiated_again(name):
    network = new_network(name, num_classes=3, resolution=5, seed=0)
    x = torch.randn(2, 5, requires_grad=True)
    loss = F.cross_entropy(network(x), torch.tensor([0, 2]))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    sum(g.square().sum() for g in gradients).backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0


def test_networks_and_samples_of_different_kinds_are_refused():
    with pytest.raises(InputError, match=r"convnet3@8 .* of images.* has vectors; .*'linear', 'ml"):
        check_network("convnet3@8", kind="vectors")
    with pytest.raises(InputError, match="mlp is a network of vectors, and the data set has image"):
        check_network("mlp", 32, "images")
    with pytest.raises(InputError, match="linear has no hidden layer, and so no width"):
        check_network("linear@8")
