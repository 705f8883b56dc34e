"""The mode in which objectives run a student: as in training, but without chance."""

from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

N = TypeVar("N", bound=nn.Module)


def without_chance(network: N) -> N:
    """The network itself, whose batch norms look at the batch, and nothing else is drawn.

    A step that compares two passes, or takes one twice, needs the same function in both, so that
    all else is in eval mode: dropout, that inside attention too, and stochastic depth.
    """
    network.eval()
    for norm in batch_norms(network):
        norm.train()
    return network


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All layers that normalise by a batch."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
