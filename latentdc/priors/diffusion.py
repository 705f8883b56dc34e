"""LD3M: latents and class conditions decoded by a frozen latent diffusion model.

Moser et al., "Unlocking Dataset Distillation with Diffusion Models", NeurIPS 2025,
https://arxiv.org/abs/2403.03881. Deviations from the released code: the noise of each image is
fixed and belongs to the set, and images enter the encoder in [-1, 1].
"""

from itertools import repeat

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from latentdc.images import contiguous
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import Denoiser
from latentdc.priors.gradients import Memory, Step
from latentdc.priors.memory import MemoryChoice, Needs, Plan, fixed_plan, needed_bytes
from latentdc.priors.precision import Precision, network_autocast
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
        memory: `fast` keeps the activations of the one forward sweep; `low` and `replay` work in
            chunks of images and compute each step once more in backward; `auto` measures what fits.
        chunk: images per chunk, but with `fast` and `auto`.
        truncate: gradient through the skip and the network's last so many steps alone, an
            approximation; None is exact.
        identity: of all weights.
        precision: of the denoiser; None takes the autoencoder's.
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
        memory: MemoryChoice = "fast",
        chunk: int = 10,
        truncate: int | None = None,
        identity: str = "unnamed",
        precision: Precision | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.class_names = class_names
        self.schedule = make_schedule(scheduler, steps)
        self.guidance = guidance
        self.skip: Skip = skip
        self.plan = fixed_plan(memory, chunk)
        self.truncate = truncate
        self.precision = precision or autoencoder.precision
        self.identity = identity
        self.latent_shape = autoencoder.latent_shape
        self.resolution = autoencoder.resolution
        device = autoencoder.device  # timesteps wait there, so that no step sends one
        self.timesteps = {t: torch.tensor(t, device=device) for t in self.schedule.timesteps}

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.autoencoder.device

    @property
    def settings(self) -> dict[str, object]:
        """What decides, beside the weights, which images latents stand for, in JSON's types."""
        return {
            "steps": len(self.schedule.timesteps),
            "guidance": self.guidance,
            "skip": self.skip,
        }

    @property
    def calls(self) -> int:
        """Of the denoiser in one decode; the first result of the `mean` skip is z_T whole."""
        return len(self.schedule.timesteps) - (self.skip == "mean")

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape)."""
        return self.autoencoder.encode(images)

    def condition(self, labels: Tensor) -> Tensor | None:
        """(B,) labels of this prior's classes -> (B, T, D), None if unconditional."""
        return self.denoiser.condition(labels)

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """Denoise and decode: (B, *latent_shape), (B, T, D), noise like z -> (B, 3, H, W)."""
        assert noise is not None, "a diffusion prior decodes z and noise"
        plan = self.plan or Plan("fast")
        size = plan.together(len(z))
        conditions = repeat(None) if c is None else c.split(size)
        chunks = zip(z.split(size), conditions, noise.split(size), strict=False)
        return torch.cat(
            [self._run(*chunk, plan.memory, self.autoencoder.draw) for chunk in chunks]
        )

    def denoise(self, z: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        """(B, *latent_shape) latents at the end of the denoising process, all at once."""
        return self._run(z, c, noise, "fast")

    def needs(self) -> Needs:
        """What backward keeps of one image, measured on one step and the decoder."""
        c = self.condition(torch.zeros(1, dtype=torch.long, device=self.device))
        z = torch.zeros(1, *self.latent_shape, device=self.device, requires_grad=True)
        context = self.context(None if c is None else c.detach())
        last = self.schedule.timesteps[-1]
        return needed_bytes(
            [
                (lambda: self.predict(z, last, context), self.truncate or self.calls),
                (lambda: self.autoencoder.draw(z), 1),
            ]
        )

    def _run(
        self, z: Tensor, c: Tensor | None, noise: Tensor, memory: Memory, *finish: Step
    ) -> Tensor:
        return sample(
            self.predict,
            z,
            noise,
            self.schedule,
            skip=self.skip,
            clean=self.autoencoder.quantize(z) if self.skip == "x0" else None,
            context=self.context(c),
            memory=memory,
            truncate=self.truncate,
            finish=finish,
        )

    def context(self, c: Tensor | None) -> Tensor | None:
        """What the denoiser sees in every step: null conditions first, where guidance needs them.

        (B, T, D) conditions -> (2B or B, T, D), None if unconditional.
        """
        if c is None or self.guidance == 1:
            return c
        return torch.cat([self.denoiser.null.expand_as(c), c])

    def predict(self, x: Tensor, timestep: int, context: Tensor | None) -> Tensor:
        """The guided prediction at x_t: e(x, 0) + s (e(x, c) - e(x, 0)), like x."""
        time = self.timesteps[timestep]
        guided = context is not None and self.guidance != 1
        with network_autocast(x.device, self.precision):
            made = self.denoiser(contiguous(torch.cat([x, x]) if guided else x), time, context)
        made = made.to(x.dtype)
        if not guided:
            return made
        without, under = made.chunk(2)
        return without + self.guidance * (under - without)
