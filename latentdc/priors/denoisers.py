"""Denoising networks with a learnable class condition, behind one call."""

from collections.abc import Sequence
from typing import Protocol

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class Denoiser(Protocol):
    """A frozen network that predicts noise under a condition of T tokens of width D."""

    null: Tensor  # (1, T, D), the condition that stands for no class

    def condition(self, labels: Tensor) -> Tensor | None:
        """(B,) labels -> (B, T, D) learned class embeddings, None if unconditional."""

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """Prediction like x at noisy latents (B, C, h, w), timestep (), conditions (B, T, D)."""


class ClassEmbedding(ModelMixin, ConfigMixin):
    """One learned token per class and a last one for no class, as in class-conditional LDM.

    Args:
        class_names: in label order.
        width: of a token.
    """

    @register_to_config
    def __init__(self, class_names: Sequence[str], width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(class_names) + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) labels, the number of classes meaning none -> (B, 1, width)."""
        tokens: Tensor = self.embedding(labels)
        return tokens[:, None]


class UNetDenoiser:
    """diffusers' UNet2DConditionModel attending to one class token (LDM's cin256 has this form)."""

    def __init__(self, unet: UNet2DConditionModel, embedding: ClassEmbedding) -> None:
        self.unet = unet.eval().requires_grad_(False)
        self.embedding = embedding.eval().requires_grad_(False)
        classes = len(embedding.config["class_names"])
        self.null = self.embedding(torch.tensor([classes], device=unet.device))

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, 1, D)."""
        tokens: Tensor = self.embedding(labels)
        return tokens

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        prediction: Tensor = self.unet(x, timestep, encoder_hidden_states=context).sample
        return prediction[:, : x.shape[1]]
