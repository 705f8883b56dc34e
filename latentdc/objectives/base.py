"""The seam between the distillation loop and what it minimises."""

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor

RealBatch = Callable[[int, int], Tensor]
"""(step, label) -> (B, 3, H, W) real images of one class in [-1, 1]."""


class Objective(Protocol):
    """A loss between real and synthetic images, summed over classes."""

    @property
    def scope(self) -> Literal["class", "set"]:
        """Which synthetic images one call must see.

        `class`: any number of whole classes, the loss being a sum over them, so that each process
        works on its own. `set`: all images, gathered from all processes, because classes act on
        each other (DC's inner loop, MTT); every process then computes the same.
        """

    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """Add the loss's gradient to `synthetic.grad`.

        Args:
            step: index of the distillation step, which keys every draw.
            synthetic: (N, 3, H, W) images in [-1, 1], a leaf that requires gradients.
            labels: (N,) their classes, in class-major order, on the CPU.
            real: real images by step and class.

        Returns:
            () loss, detached.
        """
