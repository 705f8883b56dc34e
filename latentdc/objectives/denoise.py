"""Denoising: latents move to where a diffusion prior finds its own noise again.

The second stage of Wang et al., "CaO2: Rectifying Inconsistencies in Diffusion-Based Dataset
Distillation", ICCV 2025, https://arxiv.org/abs/2506.22637: at the low noise of the cleanest quarter
of the schedule the loss of a latent z is MSE(n, e) + 10 max |n - e|, with the prediction e of the
frozen denoiser at sqrt(a) z + sqrt(1 - a) n, and n one of 1024 fixed draws. It looks at no image:
neither real ones nor those that z decodes to.

Deviations of the released code: it gives the network the number of the step in the shortened
schedule (1 to 11 of 50) as if it were a timestep of the training schedule, where `timestep=mapped`
gives the step's own; and its ImageNet-1K script conditions on no class (`condition=none`).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from latentdc.draws import generator
from latentdc.io import fingerprint
from latentdc.objectives.base import RealBatch
from latentdc.priors.classes import match_classes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.sampler import noised
from latentdc.recipe import Denoising, identity

DENOISED = 16  # latents that the network is given together where prior.memory is `auto`


class Denoise:
    """The denoising loss of clean latents, each by itself; the objective of a latent space.

    Latents are those of the prior's autoencoder. A schedule without the settings' steps is refused.
    """

    sums_classes = True
    scope: Literal["class", "set"] = "class"

    def __init__(
        self,
        settings: Denoising,
        prior: DiffusionPrior,
        *,
        class_names: Sequence[str],
        seed: int = 0,
    ) -> None:
        self.settings, self.prior, self.seed = settings, prior, seed
        self.space = prior.autoencoder
        self.class_names = tuple(class_names)
        self.places = match_classes(self.class_names, prior)
        self.numbers = settings.drawn(len(prior.schedule.timesteps))

    @property
    def identity(self) -> str:
        """Hex digits of what decides the loss."""
        return fingerprint(
            [identity.facts_of(self.settings), self.prior.identity, self.prior.settings, self.seed]
        )

    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """Add the loss's gradient to `synthetic.grad`; the loss is summed over images.

        `synthetic` are (N, C, h, w) clean latents, a leaf that requires gradients; `labels` (N,)
        their classes, in class-major order. No real image is looked at.
        """
        numbers, noise = self._draws(step, labels)
        noise, total = noise.to(synthetic), synthetic.new_zeros(())
        most = DENOISED if self.prior.plan is None else self.prior.plan.together(len(labels))
        for number in numbers.unique().tolist():
            for rows in (numbers == number).nonzero().squeeze(1).split(most):
                loss = self.losses(synthetic[rows], noise[rows], number, labels[rows]).sum()
                loss.backward()
                total += loss.detach()
        return total

    def losses(self, z: Tensor, noise: Tensor, number: int, labels: Tensor) -> Tensor:
        """(B,) MSE(n, e) + w max |n - e| of clean latents z (B, C, h, w) at one step.

        The noise n is like z, `number` counts steps from the cleanest, `labels` (B,) are on the
        CPU.
        """
        prior, settings = self.prior, self.settings
        index = len(prior.schedule.timesteps) - 1 - number
        c = prior.condition(self.places[labels]) if settings.condition == "class" else None
        told = number if settings.timestep == "respaced" else None
        x = noised(z, noise, prior.schedule, index)
        off = (noise - prior.noise_in(x, index, c, told=told)).flatten(1)
        return off.square().mean(dim=1) + settings.largest * off.abs().amax(dim=1)

    def state(self) -> dict[str, Tensor]:
        """No tensors: nothing of it changes."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """There is nothing to restore."""

    def _draws(self, step: int, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) numbers of steps and (N, C, h, w) noises of the images of some classes."""
        numbers, noises, shape = [], [], self.prior.latent_shape
        for label, count in zip(*labels.unique_consecutive(return_counts=True), strict=True):
            source = generator(self.seed, "denoise", step, self.class_names[int(label)])
            size, steps = (int(count),), self.numbers
            numbers.append(torch.randint(steps.start, steps.stop, size, generator=source))
            noises += torch.randint(self.settings.noises, size, generator=source).tolist()
        sources = (generator(self.seed, "denoise noise", k) for k in noises)
        drawn = [torch.randn(shape, generator=source) for source in sources]
        return torch.cat(numbers), torch.stack(drawn)
