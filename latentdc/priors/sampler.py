"""The one denoising loop: DDIM with or without ancestral noise, or a flow, corrected by guides.

DDIM: Song et al., https://arxiv.org/abs/2010.02502; with eta = 0 decoding is a function of the
noise, with eta = 1 it is ancestral sampling (DDPM, Ho et al., https://arxiv.org/abs/2006.11239).
"""

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, SupportsIndex, cast, get_args

import torch
from torch import Tensor

from latentdc import draws
from latentdc.arguments import require_able
from latentdc.errors import InputError
from latentdc.priors.memory import run_steps
from latentdc.priors.schedule import Schedule
from latentdc.recipe.fields import show

Through = Literal["none", "x0", "denoiser"]


@dataclass(frozen=True)
class Prediction:
    """What a network says of x_t (B, C, h, w), each part like it."""

    guided: Tensor  # noise or v, after classifier-free guidance
    ranges: Tensor | None = None  # learned range of the noise's variance in [-1, 1], if it has one
    text: Tensor | None = None  # of the conditional branch before guidance; None without guidance
    guidance: Tensor | float = 1.0  # its scale; (C, 1, 1) where it is 1 in some channels

    @classmethod
    def joined(cls, parts: "Sequence[Prediction]") -> "Prediction":
        """One prediction of all images from those of some."""

        def cat(name: str) -> Any:
            tensors = [getattr(part, name) for part in parts]
            return None if tensors[0] is None else torch.cat(tensors)

        return cls(cat("guided"), cat("ranges"), cat("text"), parts[0].guidance)


Predict = Callable[[Tensor, Any], Prediction | Tensor]
"""(x_t (B, C, h, w), timestep) -> its prediction; a tensor is a guided one, like x_t or with 2C
channels, the last C of which are the range of the noise's variance."""


@dataclass(frozen=True, eq=False)
class StepState:
    """One step before its noise is added: what a guide sees, and returns corrected.

    Attributes:
        x: (B, C, h, w) x_t, which the network saw; what `gradient` is taken with respect to.
        x0: (B, C, h, w) predicted clean latents.
        eps: (B, C, h, w) predicted noise.
        added: standard deviation of the noise that the step adds: 0 without ancestral noise,
            (B, C, h, w) where the network learned it; None of a flow.
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
    added: Tensor | float | None
    index: int
    schedule: Schedule
    sigma: float = 0.0
    moved: Tensor | None = None
    text_eps: Tensor | None = None
    text_x0: Tensor | None = None
    guidance: Tensor | float = 1.0

    @property
    def timestep(self) -> float:
        """What the network is told of the time."""
        return self.schedule.timesteps[self.index]

    @property
    def signal(self) -> float:
        """Weight of x0 in x: sqrt(a), and 1 - s of a flow."""
        return self.schedule.weights(self.schedule.alphas[self.index])[0]

    @property
    def rest(self) -> float:
        """Weight of eps in x: sqrt(1 - a), and s of a flow."""
        return self.schedule.weights(self.schedule.alphas[self.index])[1]

    @property
    def alpha(self) -> float:
        """Cumulated alpha at x; a flow has none, and `signal` and `rest` instead."""
        if self.schedule.is_flow:
            raise InputError("a flow has no alpha, and this guide asks for it; take another guide.")
        return self.schedule.alphas[self.index]

    @property
    def std(self) -> Tensor | float:
        """Standard deviation of the noise that the step adds, a unit that a flow does not have."""
        if self.added is None:
            raise InputError(
                "this guide is in units of the noise that a step adds, and a flow's steps add "
                "none; take a guide of x0."
            )
        return self.added

    @property
    def mean(self) -> Tensor:
        """(B, C, h, w) of x_(t-1): sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps."""
        if self.moved is not None:
            return self.moved
        signal, rest = self.schedule.weights(self.schedule.previous[self.index], self.sigma)
        return signal * self.x0 + rest * self.eps

    def with_mean(self, mean: Tensor) -> "StepState":
        """With another mean."""
        return replace(self, moved=mean)

    def with_x0(self, x0: Tensor, *, consistent: bool = False) -> "StepState":
        """With other clean latents; if `consistent`, with the noise that leads from them to x."""
        if not consistent:
            return self._with_prediction(x0, self.eps)
        return self._with_prediction(x0, (self.x - self.signal * x0) / self.rest)

    def with_eps(self, eps: Tensor) -> "StepState":
        """With other noise, and the clean latents that it leads to; not where x is pure noise."""
        return self._with_prediction(self._clean(eps), eps)

    def with_text_eps(self, eps: Tensor) -> "StepState":
        """With other noise of the conditional branch, guided anew; see `with_eps`."""
        if self.text_eps is None:
            return self.with_eps(eps)
        state = self.with_eps(self.eps + self.guidance * (eps - self.text_eps))
        return replace(state, text_eps=eps, text_x0=self._clean(eps))

    def gradient(self, loss: Tensor) -> Tensor:
        """(B, C, h, w) of a () loss with respect to x, by the way of the guide's `through`."""
        return torch.autograd.grad(loss, self.x, retain_graph=True)[0]

    def _clean(self, eps: Tensor) -> Tensor:
        """Clean latents that noise leads to."""
        if self.signal == 0:
            raise InputError(
                f"step {self.index} starts from noise alone, where other noise says nothing of the "
                "image; leave it out of this guide's steps."
            )
        return (self.x - self.rest * eps) / self.signal

    def _with_prediction(self, x0: Tensor, eps: Tensor) -> "StepState":
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

    def __post_init__(self) -> None:
        steps = self.steps is None or isinstance(self.steps, Collection)
        if not (callable(self.correct) and self.through in get_args(Through) and steps):
            raise InputError(
                f"a Guide has a function of the state, through one of {get_args(Through)} and "
                f"steps, indices or None; got {show(self.correct)}, {show(self.through)} and "
                f"{show(self.steps)}."
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
    kept: int | None = None,
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
        kept: how many of the last steps keep their activations for the gradient; None is all.

    Returns:
        (B, C, h, w) denoised latents, differentiable in all that `predict` and guides were made of.
    """

    def step(index: int, x: Tensor) -> Tensor:
        """x_(t-1) from x_t, in the precision of x whatever the network computes in."""
        acting = [guide for guide in guides if guide.steps is None or index in guide.steps]
        through = {guide.through for guide in acting} - {"none"}
        if not through:
            return _next(_predicted(predict, schedule, eta, index, x), acting, noise)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            network = predict if "denoiser" in through else torch.no_grad()(predict)
            return _next(_predicted(network, schedule, eta, index, x), acting, noise).detach()

    steps = [partial(step, index) for index in range(start, len(schedule.timesteps))]
    return run_steps(steps, x, kept=kept)


def invert(predict: Predict, z: Tensor, schedule: Schedule, *, stop: int = 0) -> Tensor:
    """DDIM backwards: clean latents as noisy as a step expects them, by the network's own noise.

    Each step solves DDIM's for x_t with the noise that the network predicts at x_(t-1) in place of
    x_t, as in Mokady et al., https://arxiv.org/abs/2211.09794, and diffusers' DDIMInverseScheduler.
    `stop` is the index of the last step that is walked back, 0 being the noisiest.
    """
    x = z
    cleaner = replace(schedule, alphas=schedule.previous)  # what x is as noisy as
    for index in reversed(range(stop, len(schedule.timesteps))):
        told = _predicted(predict, cleaner, 0.0, index, x)
        signal, rest = schedule.weights(schedule.alphas[index])
        before, remaining = schedule.weights(schedule.previous[index])
        if schedule.is_flow:
            x = x + (rest - remaining) * (told.eps - told.x0)
        else:
            x = signal * ((x - remaining * told.eps) / before) + rest * told.eps
    return x


def noised(z: Tensor, noise: Tensor, schedule: Schedule, start: int = 0) -> Tensor:
    """Z as noisy as the step `start` expects it: sqrt(a) z + sqrt(1 - a) noise."""
    signal, rest = schedule.weights(schedule.alphas[start])
    return signal * z + rest * noise


def keyed_noise(
    seed: int, images: Sequence[tuple[str, int]], like: Tensor
) -> Callable[[int], Tensor]:
    """Ancestral noise like (B, C, h, w) latents by index of a step, each image's its own."""
    return lambda index: keyed_draw(seed, "ancestral", images, like.shape[1:], index).to(like)


def keyed_draw(
    seed: int, what: str, images: Sequence[tuple[str, int]], shape: Sequence[int], *keys: int
) -> Tensor:
    """(B, *shape) standard normal, of each image (class and number) its own in any batch."""
    sources = (draws.generator(seed, what, *image, *keys) for image in images)
    return torch.stack([torch.randn(tuple(shape), generator=source) for source in sources])


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
    if schedule.is_flow:
        return replace(state, added=None)
    if eta == 0 or index == len(schedule.timesteps) - 1:
        return state
    beta = 1 - alpha / after
    posterior = (1 - after) / (1 - alpha) * beta
    sigma = eta * posterior**0.5
    std: Tensor | float = sigma
    if told.ranges is not None and eta == 1:
        std = _learned_std(told.ranges.to(x.dtype), posterior, beta)
    return replace(state, added=std, sigma=sigma)


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
        if not isinstance(state, StepState):
            raise InputError(
                f"a guide returns the state, with another mean, x0 or noise, got {show(state)}."
            )
    mean = state.mean
    if mean.shape != state.x.shape:
        raise InputError(
            f"guides return the state of as many latents, {tuple(state.x.shape)}, got a mean of "
            f"{tuple(mean.shape)}."
        )
    if state.added is None or (isinstance(state.added, float) and state.added == 0):
        return mean
    assert noise is not None, "ancestral steps need noise"
    return mean + state.added * noise(state.index)


# ---- Arguments of a prior's sampling ----


def require_named(images: object, seed: object) -> None:
    """Refuse what names no images, and what is no seed of their draws."""
    if not _pairs(images):
        raise InputError(
            "images are one or more pairs of a class's name and a number, such as [('cat', 0), "
            f"('cat', 1)], got {show(images)}."
        )
    if as_whole(seed) is None:
        raise InputError(f"seed takes a whole number, got {show(seed)}.")


def _pairs(images: object) -> bool:
    """Whether they are pairs of keys; an array or a tensor may hold them."""
    if not isinstance(images, Collection) or getattr(images, "shape", None) == ():
        return False
    return len(images) > 0 and all(
        isinstance(one, Collection)
        and not isinstance(one, str)
        and getattr(one, "shape", None) != ()
        and len(one) == 2
        and all(isinstance(key, str) or as_whole(key) is not None for key in one)
        for one in images
    )


def as_whole(value: object) -> int | None:
    """A whole number, such as one of NumPy or torch, as Python's; None if it is none."""
    try:
        return None if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        return None


def require_guides(guides: object) -> list[Any]:
    """Some guides as a list; what is none is refused."""
    if not isinstance(guides, Iterable):
        raise InputError(f"guides are a list of latentdc.Guide, got {show(guides)}.")
    made = list(guides)
    for guide in made:
        require_able("correct through steps", guide, "a guide", "a latentdc.Guide")
    return made


# ---- LD3M's residuals ----


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
