"""LD3M: latents and class conditions decoded by a frozen latent diffusion model.

Moser et al., "Unlocking Dataset Distillation with Diffusion Models", NeurIPS 2025,
https://arxiv.org/abs/2403.03881. Deviations from the released code: the noise of each image is
fixed and belongs to the set, and images enter the encoder in [-1, 1]. A residual carries z through
every step; both of its known forms are guides of the sampler.
"""

from itertools import repeat

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from latentdc.images import contiguous
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Denoiser, Precision, network_autocast
from latentdc.priors.memory import FAST, Memory, Needs, fixed_plan, needed_bytes, run_steps
from latentdc.priors.sampler import Guide, StepState, make_schedule, noised, sample
from latentdc.recipe import PriorSettings


class DiffusionPrior:
    """z and c through a guided, deterministic denoising process and the decoder.

    Args:
        autoencoder: gives the latent space, and the identity of all weights.
        denoiser: the frozen conditional network.
        scheduler: the training schedule.
        settings: steps, guidance, skip, memory and chunk.
        class_names: that the denoiser's labels stand for; None if unknown.
        precision: of the denoiser; None takes the autoencoder's.
    """

    has_noise = True

    def __init__(
        self,
        autoencoder: AutoencoderPrior,
        denoiser: Denoiser,
        scheduler: DDIMScheduler,
        settings: PriorSettings,
        *,
        class_names: tuple[str, ...] | None,
        precision: Precision | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.class_names = class_names
        self.schedule = make_schedule(scheduler, settings.steps)
        self.guidance = settings.guidance
        self.skip = settings.skip
        self.plan = fixed_plan(settings.memory, settings.chunk)
        self.precision = precision or autoencoder.precision
        self.identity = autoencoder.identity
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
        plan = self.plan or FAST
        size = plan.together(len(z))
        conditions = repeat(None) if c is None else c.split(size)
        images = []
        for chunk in zip(z.split(size), conditions, noise.split(size), strict=False):
            latents = self.denoise(*chunk, memory=plan.memory)
            images.append(run_steps([self.autoencoder.draw], latents, memory=plan.memory))
        return torch.cat(images)

    def denoise(
        self, z: Tensor, c: Tensor | None, noise: Tensor, *, memory: Memory = "fast"
    ) -> Tensor:
        """(B, *latent_shape) latents at the end of the denoising process, all at once."""
        clean = self.autoencoder.quantize(z) if self.skip == "x0" else z
        context = self.context(c)
        x_T = noised(z, noise, self.schedule)
        count = len(self.schedule.timesteps)
        guides = {"x0": [x0_skip(clean, count)], "mean": [mean_skip(x_T, count)], "none": []}
        return sample(
            lambda x, timestep: self.predict(x, timestep, context),
            x_T.view_as(x_T),  # so that gradients are summed in the order of the steps
            self.schedule,
            start=int(self.skip == "mean"),  # whose first result is x_T, with weight 1
            guides=guides[self.skip],
            memory=memory,
        )

    def needs(self) -> Needs:
        """What backward keeps of one image, measured on one step and the decoder."""
        c = self.condition(torch.zeros(1, dtype=torch.long, device=self.device))
        z = torch.zeros(1, *self.latent_shape, device=self.device, requires_grad=True)
        context = self.context(None if c is None else c.detach())
        last = self.schedule.timesteps[-1]
        return needed_bytes(
            [
                (lambda: self.predict(z, last, context), self.calls),
                (lambda: self.autoencoder.draw(z), 1),
            ]
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
            both = torch.cat([x, x]) if guided else x
            prediction = self.denoiser(contiguous(both), time, context)
        prediction = prediction[:, : x.shape[1]].to(x.dtype)  # without a learned variance
        if not guided:
            return prediction
        without, under = prediction.chunk(2)
        return without + self.guidance * (under - without)


def x0_skip(clean: Tensor, count: int) -> Guide:
    """LD3M's residual of the released code: `clean` in the predicted x0, with weights 1, ..., 0."""

    def mix(state: StepState) -> StepState:
        weight = 1 - state.index / (count - 1)
        return state.with_x0((1 - weight) * state.x0 + weight * clean)

    return Guide(mix)


def mean_skip(x_T: Tensor, count: int) -> Guide:
    """LD3M's residual of the paper (Eq. 7): z_T in the mean of each step, with weights t/T."""

    def mix(state: StepState) -> StepState:
        weight = (count - state.index) / count  # 1, ..., 1/T
        return state.with_mean((1 - weight) * state.mean + weight * x_T)

    return Guide(mix)
