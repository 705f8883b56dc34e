"""The mode in which objectives run a student: as in training, but without chance."""

from functools import cache
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from latentdc.networks.build import outline
from latentdc.recipe.networks import LIMITS, parse_network

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


@cache
def needs_company(network: str, num_classes: int, resolution: int) -> bool:
    """Whether one image alone cannot be trained on, tried on an outline without weights.

    A batch norm refuses it where it sees a single value per channel.
    """
    limits = LIMITS.get(parse_network(network)[0])
    if limits is not None and limits.kind == "vectors":
        return False
    tried = outline(network, num_classes=num_classes, resolution=resolution).train()
    try:
        with torch.device("meta"):
            tried(torch.empty(1, 3, resolution, resolution))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return True
    return False


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All layers that normalise by a batch."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
