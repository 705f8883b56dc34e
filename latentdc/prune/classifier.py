"""`Classifier`: a network with the way from images to its input, and from its logits to classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images in [-1, 1] to logits of the data set's classes.

    Args:
        network: (B, 3, H, W) input -> (B, K) logits.
        prepare: (B, 3, H, W) images in [0, 1] -> the network's input.
        columns: position of each class of the data set among the K; None where they are the same.
    """

    columns: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prepare = prepare
        self.register_buffer("columns", None if columns is None else torch.tensor(columns))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, C) logits."""
        logits: Tensor = self.network(self.prepare((images + 1) / 2))
        return logits if self.columns is None else logits[:, self.columns]
