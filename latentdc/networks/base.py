"""`Network`: what every student, teacher and scorer has."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """An embedding and a linear classifier on it.

    Differentiable twice, because gradient matching differentiates a gradient.
    """

    linear: nn.Linear

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, D) embedding that the classifier sees."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, num_classes) logits."""
        logits: Tensor = self.linear(self.features(images))
        return logits


def instance_norm(channels: int) -> nn.GroupNorm:
    """The "instancenorm" of the distillation literature: one group per channel, affine."""
    return nn.GroupNorm(channels, channels)
