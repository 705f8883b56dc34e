import torch
from torch import nn
from torchvision.ops import StochasticDepth

from latentdc.networks.modes import batch_norms, without_chance


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), StochasticDepth(0.5, "row")
    )


def test_two_passes_are_the_same_and_look_at_the_batch():
    student = without_chance(network())
    inputs = 5 + torch.randn(6, 4)
    first, second = student(inputs), student(inputs)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-5)
    assert [norm is student[2] for norm in batch_norms(student)] == [True]


def test_attention_drops_nothing_either():
    attention = without_chance(nn.MultiheadAttention(4, 1, dropout=0.9))
    x = torch.randn(3, 1, 4)
    assert torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])
