"""Denoisers without classes, such as LDM's for faces (FFHQ): latents alone are optimised.

Moser et al. (https://arxiv.org/abs/2403.03881) compare such a prior with ImageNet's.
"""

import torch
from diffusers import UNet2DModel
from torch import Tensor


class UnconditionalDenoiser:
    """diffusers' UNet2DModel behind the seam of `Denoiser`, with conditions of no tokens."""

    def __init__(self, unet: UNet2DModel) -> None:
        self.unet = unet.eval().requires_grad_(False)
        self.null = torch.zeros(1, 0, 0, device=unet.device)

    def condition(self, labels: Tensor) -> None:
        """None: labels make no difference."""

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        prediction: Tensor = self.unet(x, timestep).sample
        return prediction[:, : x.shape[1]]
