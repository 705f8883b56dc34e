"""`Network`: what every student, teacher and scorer has, and the modes it is run in."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from latentdc.images import contiguous

N = TypeVar("N", bound=nn.Module)
Weights = dict[str, Tensor]  # by name


class Network(nn.Module, ABC):
    """An embedding and a linear classifier on it.

    Differentiable twice, because gradient matching differentiates a gradient.
    """

    linear: nn.Linear

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """`features` of contiguous images, which is what a network defines."""

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images, or vectors -> (B, D) embedding for the classifier."""
        return self.embed(contiguous(images))

    def named(self, state: Mapping[str, Tensor]) -> Weights:
        """A file's weights under this network's names, where they are published under others."""
        return dict(state)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, num_classes) logits."""
        logits: Tensor = self.linear(self.features(images))
        return logits


def instance_norm(channels: int) -> nn.GroupNorm:
    """The "instancenorm" of the distillation literature: one group per channel, affine."""
    return nn.GroupNorm(channels, channels)


def he_normal(network: nn.Module) -> None:
    """Draw the weights of convolutions anew: N(0, 2 / fan out), He et al., ICCV 2015."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All layers that normalise by a batch."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def disable_dropout(network: N) -> N:
    """The network itself, with batch norms as in training and all else in eval mode.

    Without dropout, attention's too, and stochastic depth it is the same function in two passes,
    which a step that compares two of them, or takes one twice, needs.
    """
    network.eval()
    for norm in batch_norms(network):
        norm.train()
    return network
