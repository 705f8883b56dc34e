"""LD3M: latents and class conditions decoded by a frozen latent diffusion model.

Moser et al., "Unlocking Dataset Distillation with Diffusion Models", NeurIPS 2025,
https://arxiv.org/abs/2403.03881. Deviations from the released code: the noise of each image is
fixed and belongs to the set, and images enter the encoder in [-1, 1].
"""

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import Denoiser
from latentdc.priors.sampler import Skip, make_schedule, sample


class DiffusionPrior:
    """z and c through a guided, deterministic denoising process and the decoder.

    Args:
        autoencoder: gives the latent space.
        denoiser: the frozen conditional network.
        scheduler: the training schedule.
        class_names: that the denoiser's labels stand for; None if unknown.
        steps: denoising steps.
        guidance: classifier-free guidance; 1 spends no call on the null condition.
        skip: form of LD3M's residual.
        memory: `fast` keeps the activations of the one forward sweep; `low` works in chunks of
            images and computes each denoising step once more in backward.
        chunk: images per chunk when memory is `low`.
        identity: of all weights.
    """

    has_noise = True

    def __init__(
        self,
        autoencoder: AutoencoderPrior,
        denoiser: Denoiser,
        scheduler: DDIMScheduler,
        *,
        class_names: tuple[str, ...] | None,
        steps: int = 10,
        guidance: float = 3.0,
        skip: Skip = "x0",
        memory: str = "fast",
        chunk: int = 10,
        identity: str = "unnamed",
    ) -> None:
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.class_names = class_names
        self.schedule = make_schedule(scheduler, steps)
        self.guidance = guidance
        self.skip: Skip = skip
        self.memory = memory
        self.chunk = chunk
        self.identity = identity
        self.latent_shape = autoencoder.latent_shape
        self.resolution = autoencoder.resolution

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape)."""
        return self.autoencoder.encode(images)

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels of this prior's classes -> (B, T, D)."""
        return self.denoiser.condition(labels)

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """Denoise and decode: (B, *latent_shape), (B, T, D), noise like z -> (B, 3, H, W)."""
        assert c is not None and noise is not None, "a diffusion prior decodes z, c and noise"
        if self.memory == "fast":
            return self.autoencoder.decode(self.denoise(z, c, noise))
        chunks = [
            self._decode_again(*part)
            for part in zip(
                z.split(self.chunk), c.split(self.chunk), noise.split(self.chunk), strict=True
            )
        ]
        return torch.cat(chunks)

    def denoise(self, z: Tensor, c: Tensor, noise: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, *latent_shape) latents at the end of the denoising process."""
        null = self.denoiser.null.expand_as(c)

        def predict(x: Tensor, timestep: int) -> Tensor:
            if self.guidance == 1:
                return self.denoiser(x, timestep, c)
            both = self.denoiser(torch.cat([x, x]), timestep, torch.cat([null, c]))
            without, under = both.chunk(2)
            return without + self.guidance * (under - without)

        return sample(
            predict,
            z,
            noise,
            self.schedule,
            skip=self.skip,
            clean=self.autoencoder.quantize(z),
            recompute=recompute,
        )

    def _decode_again(self, z: Tensor, c: Tensor, noise: Tensor) -> Tensor:
        latents = self.denoise(z, c, noise, recompute=True)
        return checkpoint(
            self.autoencoder.decode, latents, use_reentrant=False, preserve_rng_state=False
        )
