"""Text-conditional UNets (Stable Diffusion, SDXL) with the tokens of a prompt to learn."""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from latentdc.priors.clip import TextConditions


class TextDenoiser:
    """diffusers' UNet2DConditionModel attending to the tokens of CLIP's text encoders.

    A class's condition starts from its prompt, and every token of it is learned. SDXL's pooled
    embedding is learned too, as the last of the tokens; the size that SDXL is told is the images'.

    Args:
        unet: frozen here and put into eval mode.
        texts: encoded prompts.
        resolution: of the images.
    """

    def __init__(
        self, unet: UNet2DConditionModel, texts: TextConditions, *, resolution: int
    ) -> None:
        self.unet = unet.eval().requires_grad_(False)
        self.rows = texts.rows
        self.null = texts.null.to(unet.device)
        self.pooled = texts.pooled
        size = (resolution, resolution)  # original, then crop's corner, then target
        self.time_ids = torch.tensor([(*size, 0, 0, *size)], device=unet.device)

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, T, D)."""
        return self.rows[labels.to(self.rows.device)].to(labels.device)

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        assert context is not None
        tokens, added = context, None
        if self.pooled is not None:
            tokens = context[:, :-1]
            pooled = context[:, -1, : self.pooled]
            added = {"text_embeds": pooled, "time_ids": self.time_ids.expand(len(x), -1)}
        prediction: Tensor = self.unet(
            x, timestep, encoder_hidden_states=tokens, added_cond_kwargs=added
        ).sample
        return prediction[:, : x.shape[1]]
