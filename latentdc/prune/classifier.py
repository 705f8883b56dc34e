"""`Classifier`: a network with the way from samples to its input, and from logits to classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from latentdc.errors import InputError
from latentdc.images import contiguous, kind_of


class Classifier(nn.Module):
    """Images in [-1, 1] to logits of the data set's classes.

    Args:
        network: (B, 3, H, W) input -> (B, K) logits.
        prepare: (B, 3, H, W) images in [0, 1], or (B, D) vectors -> the network's input.
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
        """(B, 3, H, W) images in [-1, 1], or (B, D) vectors -> (B, C) logits."""
        logits: Tensor = self.network(self.input_of(images))
        return self.restrict(logits)

    def input_of(self, images: Tensor) -> Tensor:
        """What the network sees of images in [-1, 1], or of vectors."""
        seen = self.prepare(images if kind_of(images) == "vectors" else (images + 1) / 2)
        return contiguous(seen)

    def restrict(self, logits: Tensor) -> Tensor:
        """(B, K) logits of the network -> (B, C) of the data set's classes."""
        return logits if self.columns is None else logits[:, self.columns]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) images -> (B, C) logits and the (B, D) features that the last layer sees.

        Raises:
            InputError: the network does not end in a linear layer.
        """
        seen: list[Tensor] = []
        hook = self._head().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(images)
        finally:
            hook.remove()
        return logits, seen[-1].flatten(start_dim=1)

    @property
    def width(self) -> int:
        """D of `embed`."""
        return self._head().in_features

    def _head(self) -> nn.Linear:
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(
                f"the scorer {type(self.network).__name__} has no linear layer whose input could "
                "be its features; choose another prune.scorer.network, or bring prune.features."
            )
        return linear[-1]
