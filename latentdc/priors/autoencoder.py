"""The latent space of a frozen autoencoder: z through the decoder alone, without diffusion."""

from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Autoencoder = Any  # AutoencoderKL, AutoencoderTiny or VQModel of diffusers, which has no types


class AutoencoderPrior:
    """Latents of diffusers' AutoencoderKL, AutoencoderTiny or VQModel, in the units of its UNet.

    A latent is (encoder output - shift) * scaling, with the factors of the autoencoder's config.

    Args:
        autoencoder: frozen here and put into eval mode.
        resolution: of the images, which may differ from the one it was trained at.
        identity: of the weights.
        memory: `low` decodes in chunks and recomputes each chunk in backward.
        chunk: images per chunk.
    """

    has_noise = False
    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        resolution: int,
        identity: str = "unnamed",
        memory: str = "fast",
        chunk: int = 10,
    ) -> None:
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.resolution = resolution
        self.identity = identity
        self.memory = memory
        self.chunk = chunk
        self.scale = float(autoencoder.config.get("scaling_factor") or 1.0)
        self.shift = float(autoencoder.config.get("shift_factor") or 0.0)
        blank = torch.zeros(1, 3, resolution, resolution, device=autoencoder.device)
        channels, height, width = self.encode(blank.to(autoencoder.dtype)).shape[1:]
        self.latent_shape = (channels, height, width)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape), the mode and not quantised."""
        encoded = self.autoencoder.encode(images)
        raw = (
            encoded.latent_dist.mode()
            if isinstance(self.autoencoder, AutoencoderKL)
            else encoded.latents
        )
        return (raw - self.shift) * self.scale

    def condition(self, labels: Tensor) -> Tensor | None:
        """An autoencoder has no condition."""
        return None

    def quantize(self, z: Tensor) -> Tensor:
        """The nearest code of a VQ codebook, with a straight-through gradient; else z."""
        if not isinstance(self.autoencoder, VQModel):
            return z
        raw = self.autoencoder.quantize(z / self.scale + self.shift)[0]
        return (raw - self.shift) * self.scale

    def decode(self, z: Tensor, c: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """(B, *latent_shape) -> (B, 3, H, W) in [-1, 1]; a VQ model quantises z first."""
        if self.memory == "fast":
            return self._decode(z)
        chunks = [
            checkpoint(self._decode, part, use_reentrant=False, preserve_rng_state=False)
            for part in z.split(self.chunk)
        ]
        return torch.cat(chunks)

    def _decode(self, z: Tensor) -> Tensor:
        images: Tensor = self.autoencoder.decode(z / self.scale + self.shift).sample
        return images.clamp(-1, 1)
