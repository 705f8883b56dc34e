"""The one denoising loop: DDIM with or without ancestral noise, corrected at each step by guides.

DDIM: Song et al., https://arxiv.org/abs/2010.02502; with eta = 0 decoding is a function of the
noise, with eta = 1 it is ancestral sampling (DDPM, Ho et al., https://arxiv.org/abs/2006.11239).
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from latentdc import draws
from latentdc.errors import InputError
from latentdc.priors.memory import Memory, run_steps

Through = Literal["none", "x0", "denoiser"]


@dataclass(frozen=True)
class Prediction:
    """What a network says of x_t.

    Attributes:
        guided: (B, C, h, w) noise or v, after classifier-free guidance.
        ranges: (B, C, h, w) learned range of the noise's variance in [-1, 1], if it has one.
        text: (B, C, h, w) of the conditional branch before guidance; None where nothing guides.
        guidance: scale of guidance; (C, 1, 1) where it is 1 in some channels.
    """

    guided: Tensor
    ranges: Tensor | None = None
    text: Tensor | None = None
    guidance: Tensor | float = 1.0


def joined(parts: Sequence[Prediction]) -> Prediction:
    """One prediction of a batch from those of its parts."""
    first = parts[0]

    def cat(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors)

    return Prediction(
        torch.cat([part.guided for part in parts]), cat("ranges"), cat("text"), first.guidance
    )


Predict = Callable[[Tensor, int], Prediction | Tensor]
"""(x_t (B, C, h, w), timestep) -> its prediction; a tensor is a guided one, like x_t or with 2C
channels, the last C of which are the range of the noise's variance."""


@dataclass(frozen=True)
class Schedule:
    """What the sampler needs of a DDIM schedule, from the noisiest step to the cleanest.

    Attributes:
        timesteps: (S,) of the training schedule, descending.
        alphas: (S,) cumulated alpha at each timestep.
        previous: (S,) cumulated alpha that each step leads to.
        prediction: what the network predicts.
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    previous: tuple[float, ...]
    prediction: Literal["epsilon", "v_prediction"]

    def clean_and_noise(self, index: int, x: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) clean latents and noise that a prediction at x of a step stands for."""
        signal, rest = self.alphas[index] ** 0.5, (1 - self.alphas[index]) ** 0.5
        if self.prediction == "v_prediction":
            return signal * x - rest * prediction, signal * prediction + rest * x
        return (x - rest * prediction) / signal, prediction


@dataclass(frozen=True)
class StepState:
    """One step before its noise is added: what a guide sees, and returns corrected.

    Attributes:
        x: (B, C, h, w) x_t, which the network saw; what `gradient` is taken with respect to.
        x0: (B, C, h, w) predicted clean latents.
        eps: (B, C, h, w) predicted noise.
        std: of the noise that the step adds: 0 without ancestral noise, (B, C, h, w) where the
            network learned it.
        index: of the step, from 0 at the noisiest to S - 1 (published windows often count down).
        schedule: of S steps.
        sigma: the noise's standard deviation that the mean allows for (Eq. 16 of Song et al.).
        moved: mean that a guide gave; None is the sampler's own.
        text_eps: (B, C, h, w) noise that the conditional branch predicts, before classifier-free
            guidance; None where guidance is 1.
        text_x0: (B, C, h, w) clean latents of that branch, or None.
        guidance: scale of guidance; (C, 1, 1) where it is 1 in some channels.
    """

    x: Tensor
    x0: Tensor
    eps: Tensor
    std: Tensor | float
    index: int
    schedule: Schedule
    sigma: float = 0.0
    moved: Tensor | None = None
    text_eps: Tensor | None = None
    text_x0: Tensor | None = None
    guidance: Tensor | float = 1.0

    @property
    def timestep(self) -> int:
        """Of the training schedule."""
        return self.schedule.timesteps[self.index]

    @property
    def alpha(self) -> float:
        """Cumulated alpha at x."""
        return self.schedule.alphas[self.index]

    @property
    def mean(self) -> Tensor:
        """(B, C, h, w) of x_(t-1): sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps."""
        if self.moved is not None:
            return self.moved
        after = self.schedule.previous[self.index]
        rest = max(0.0, 1 - after - self.sigma**2)  # which rounding can make negative
        return after**0.5 * self.x0 + rest**0.5 * self.eps

    def with_mean(self, mean: Tensor) -> "StepState":
        """Another mean."""
        return replace(self, moved=mean)

    def with_x0(self, x0: Tensor, *, consistent: bool = False) -> "StepState":
        """Other clean latents; if `consistent`, with the noise that leads from them to x."""
        if not consistent:
            return self._predicted(x0, self.eps)
        return self._predicted(x0, (self.x - self.alpha**0.5 * x0) / (1 - self.alpha) ** 0.5)

    def with_eps(self, eps: Tensor) -> "StepState":
        """Other noise, and the clean latents that it leads to; not where alpha is 0."""
        return self._predicted((self.x - (1 - self.alpha) ** 0.5 * eps) / self.alpha**0.5, eps)

    def with_text_eps(self, eps: Tensor) -> "StepState":
        """Other noise of the conditional branch, and what guidance makes of it; see `with_eps`."""
        if self.text_eps is None:
            return self.with_eps(eps)
        state = self.with_eps(self.eps + self.guidance * (eps - self.text_eps))
        clean = (self.x - (1 - self.alpha) ** 0.5 * eps) / self.alpha**0.5
        return replace(state, text_eps=eps, text_x0=clean)

    def gradient(self, loss: Tensor) -> Tensor:
        """(B, C, h, w) of a () loss with respect to x, by the way of the guide's `through`."""
        return torch.autograd.grad(loss, self.x, retain_graph=True)[0]

    def _predicted(self, x0: Tensor, eps: Tensor) -> "StepState":
        """With another prediction; what guides before this one added to the mean is kept."""
        own = replace(self, x0=x0, eps=eps, moved=None)
        if self.moved is None:
            return own
        return own.with_mean(own.mean + (self.moved - replace(self, moved=None).mean))


@dataclass(frozen=True)
class Guide:
    """A correction of the steps.

    Attributes:
        correct: the state, with another mean, x0 or noise; in the latents' units, or by a factor
            `state.std` in those of the step's noise (0 where eta is).
        through: what `state.gradient` leads through: nothing (`none`), the predicted x0 with the
            noise a constant (`x0`), or the network too (`denoiser`). Other than `none`, the
            result of a step is a constant to its caller.
        steps: indices of the steps that it corrects; None is all.
    """

    correct: Callable[[StepState], StepState]
    through: Through = "none"
    steps: Collection[int] | None = None


def make_schedule(scheduler: DDIMScheduler, steps: int) -> Schedule:
    """The schedule of `steps` denoising steps that diffusers' scheduler would walk.

    Raises:
        InputError: more steps than the training schedule has room for, or noise to predict where
            nothing but noise is left.
    """
    cumulated = [float(alpha) for alpha in scheduler.alphas_cumprod.double()]
    scheduler.set_timesteps(min(steps, scheduler.config.num_train_timesteps))
    timesteps = [int(t) for t in scheduler.timesteps]
    if len(timesteps) < steps or timesteps[0] >= len(cumulated):
        raise InputError(
            f"prior.steps={steps} is more than the prior's training schedule of {len(cumulated)} "
            f"timesteps, offset by {scheduler.config.steps_offset}, has room for; take fewer."
        )
    stride = scheduler.config.num_train_timesteps // steps
    final = float(scheduler.final_alpha_cumprod)
    if scheduler.config.prediction_type == "epsilon" and min(cumulated[t] for t in timesteps) <= 0:
        raise InputError(
            "the prior's schedule ends in pure noise (zero terminal SNR, as of "
            "rescale_betas_zero_snr), where predicted noise says nothing of the image, and its "
            "prediction_type is epsilon; correct its scheduler_config.json: such models predict "
            "v_prediction, and those that predict epsilon have no such schedule."
        )
    return Schedule(
        timesteps=tuple(timesteps),
        alphas=tuple(cumulated[t] for t in timesteps),
        previous=tuple(cumulated[t - stride] if t >= stride else final for t in timesteps),
        prediction=scheduler.config.prediction_type,
    )


def sample(
    predict: Predict,
    x: Tensor,
    schedule: Schedule,
    *,
    start: int = 0,
    eta: float = 0.0,
    noise: Callable[[int], Tensor] | None = None,
    guides: Sequence[Guide] = (),
    memory: Memory = "fast",
) -> Tensor:
    """Denoise x.

    Args:
        predict: the guided network.
        x: (B, C, h, w) latents as noisy as the step `start` expects them (`noised`).
        schedule: of S steps. The last one adds no noise, and leads to the cumulated alpha
            `previous[-1]`: 1, or alpha of timestep 0 where the scheduler says so
            (`set_alpha_to_one: false`).
        start: index of the first step, 0 being the noisiest.
        eta: share of ancestral noise, from 0 (DDIM) to 1 (DDPM, and only then with the variance
            that the network learned).
        noise: by index of a step, the standard normal draw like x that eta scales (`keyed_noise`).
        guides: correct each step, one after the other.
        memory: how the gradient is made; all ways lead to the same.

    Returns:
        (B, C, h, w) denoised latents, differentiable in all that `predict` and guides were made of.
    """
    indices = range(start, len(schedule.timesteps))
    steps = [partial(_step, predict, schedule, guides, eta, noise, index) for index in indices]
    return run_steps(steps, x, memory=memory)


def invert(predict: Predict, z: Tensor, schedule: Schedule, *, stop: int = 0) -> Tensor:
    """DDIM backwards: clean latents as noisy as a step expects them, by the network's own noise.

    Each step solves DDIM's for x_t with the noise that the network predicts at x_(t-1) in place of
    x_t, as in Mokady et al., https://arxiv.org/abs/2211.09794, and diffusers' DDIMInverseScheduler.

    Args:
        predict: the guided network.
        z: (B, C, h, w) clean latents.
        schedule: of S steps.
        stop: index of the last step that is walked back, 0 being the noisiest.
    """
    x = z
    cleaner = replace(schedule, alphas=schedule.previous)  # what x is as noisy as
    for index in reversed(range(stop, len(schedule.timesteps))):
        eps = _predicted(predict, cleaner, 0.0, index, x).eps
        alpha, after = schedule.alphas[index], schedule.previous[index]
        x0 = (x - (1 - after) ** 0.5 * eps) / after**0.5
        x = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * eps
    return x


def noised(z: Tensor, noise: Tensor, schedule: Schedule, start: int = 0) -> Tensor:
    """Z as noisy as the step `start` expects it: sqrt(a) z + sqrt(1 - a) noise."""
    alpha = schedule.alphas[start]
    return alpha**0.5 * z + (1 - alpha) ** 0.5 * noise


def keyed_noise(
    seed: int, images: Sequence[tuple[str, int]], like: Tensor
) -> Callable[[int], Tensor]:
    """Ancestral noise by index of a step (0 the noisiest), each image's its own.

    Args:
        seed: of all draws.
        images: class and number of each image.
        like: (B, C, h, w) latents.
    """
    return lambda index: keyed_draw(seed, "ancestral", images, like.shape[1:], index).to(like)


def keyed_draw(
    seed: int, what: str, images: Sequence[tuple[str, int]], shape: Sequence[int], *keys: int
) -> Tensor:
    """(B, *shape) standard normal, of each image its own whatever is drawn beside it.

    Args:
        seed: of all draws.
        what: they are for.
        images: class and number of each image.
        shape: of one latent.
        keys: such as a step's index.
    """
    sources = (draws.generator(seed, what, *image, *keys) for image in images)
    return torch.stack([torch.randn(tuple(shape), generator=source) for source in sources])


def _step(
    predict: Predict,
    schedule: Schedule,
    guides: Sequence[Guide],
    eta: float,
    noise: Callable[[int], Tensor] | None,
    index: int,
    x: Tensor,
) -> Tensor:
    """x_(t-1) from x_t, in the precision of x whatever the network computes in."""
    acting = [guide for guide in guides if guide.steps is None or index in guide.steps]
    through = {guide.through for guide in acting} - {"none"}
    if not through:
        return _next(_predicted(predict, schedule, eta, index, x), acting, noise)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        network = predict if "denoiser" in through else torch.no_grad()(predict)
        return _next(_predicted(network, schedule, eta, index, x), acting, noise).detach()


def _predicted(
    predict: Predict, schedule: Schedule, eta: float, index: int, x: Tensor
) -> StepState:
    """What the network says of x_t: the clean image, its noise, and how much the step adds."""
    told = predict(x, schedule.timesteps[index])
    if isinstance(told, Tensor):
        told = Prediction(*told.split(x.shape[1], dim=1))
    alpha, after = schedule.alphas[index], schedule.previous[index]
    x0, eps = schedule.clean_and_noise(index, x, told.guided.to(x.dtype))
    state = StepState(x, x0, eps, 0.0, index, schedule, guidance=told.guidance)
    if told.text is not None:
        text_x0, text_eps = schedule.clean_and_noise(index, x, told.text.to(x.dtype))
        state = replace(state, text_eps=text_eps, text_x0=text_x0)
    if eta == 0 or index == len(schedule.timesteps) - 1:
        return state
    beta = 1 - alpha / after
    posterior = (1 - after) / (1 - alpha) * beta
    sigma = eta * posterior**0.5
    std: Tensor | float = sigma
    if told.ranges is not None and eta == 1:
        std = _learned_std(told.ranges.to(x.dtype), posterior, beta)
    return replace(state, std=std, sigma=sigma)


def _learned_std(ranges: Tensor, posterior: float, beta: float) -> Tensor:
    """Standard deviation between the posterior's and the step's (Eq. 15 of Nichol and Dhariwal).

    "Improved Denoising Diffusion Probabilistic Models", ICML 2021,
    https://arxiv.org/abs/2102.09672.
    """
    share = (ranges + 1) / 2
    return (0.5 * (share * math.log(beta) + (1 - share) * math.log(max(posterior, 1e-20)))).exp()


def _next(
    state: StepState, guides: Sequence[Guide], noise: Callable[[int], Tensor] | None
) -> Tensor:
    for guide in guides:
        state = guide.correct(state)
    if isinstance(state.std, float) and state.std == 0:
        return state.mean
    assert noise is not None, "ancestral steps need noise"
    return state.mean + state.std * noise(state.index)
