"""Class-conditional UNet2DModels, as diffusers trains them: a row per class beside the timestep."""

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn


class ClassDenoiser:
    """diffusers' UNet2DModel; its class embedding is replaced by a learnable condition.

    A condition is one token, which is added to the embedding of the timestep.

    Args:
        unet: frozen here and put into eval mode.
        null: whether the last row of its class embedding stands for no class; without one, there is
            nothing to guide by.
    """

    def __init__(self, unet: UNet2DModel, *, null: bool) -> None:
        self.unet = unet.eval().requires_grad_(False)
        self.table: Tensor = unet.class_embedding.weight
        unet.class_embedding = nn.Identity()
        last = self.table[-1] if null else torch.zeros_like(self.table[-1])
        self.null = last.view(1, 1, -1)

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, 1, D)."""
        return self.table[labels][:, None]

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        assert context is not None
        prediction: Tensor = self.unet(x, timestep, class_labels=context[:, 0]).sample
        return prediction[:, : x.shape[1]]
