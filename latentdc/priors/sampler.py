"""LD3M's deterministic DDIM sampler with a residual that carries z through every step.

Moser et al., "Unlocking Dataset Distillation with Diffusion Models", NeurIPS 2025,
https://arxiv.org/abs/2403.03881; DDIM: Song et al., https://arxiv.org/abs/2010.02502 (eta = 0, so
that decoding is a function). Two forms of the residual are known and both are here:

- `x0`, the released code: the clean z is mixed into the predicted x0 with weights 1, ..., 0;
- `mean`, Eq. 7 of the paper: the noisy z_T is mixed into the mean of each step with weights t/T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.gradients import Memory, Step, run_steps

Skip = Literal["x0", "mean", "none"]
Predict = Callable[[Tensor, int, Tensor | None], Tensor]


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
    z: Tensor,
    noise: Tensor,
    schedule: Schedule,
    *,
    skip: Skip,
    clean: Tensor | None = None,
    context: Tensor | None = None,
    memory: Memory = "fast",
    truncate: int | None = None,
    finish: Sequence[Step] = (),
) -> Tensor:
    """Noise z to the last timestep and denoise it again, z leading the way through the skip.

    Args:
        predict: the guided network, (x_t (B, C, h, w), timestep, context) -> prediction, like x_t.
        z: (B, C, h, w) latents.
        noise: (B, C, h, w) fixed standard normal draw of each image.
        schedule: of S steps; S >= 2 with a skip.
        skip: form of the residual.
        clean: what the `x0` skip mixes in, where that is not z (a quantised z).
        context: what `predict` sees in every step.
        memory: how the gradient is made; all ways lead to the same.
        truncate: take the network's predictions of all but the last so many steps for constants;
            an approximation of the gradient, None is exact.
        finish: steps that come after denoising, functions of x alone.

    Returns:
        (B, C, h, w) denoised latents, or what `finish` makes of them; differentiable in z and
        context.
    """
    x_T = noised(z, noise, schedule)
    x = x_T.view_as(x_T)  # so that gradients are summed in the order of the steps
    lead = {"x0": z if clean is None else clean, "mean": x_T, "none": None}[skip]
    count = len(schedule.timesteps)
    indices = range(skip == "mean", count)  # whose first result is x_T, with weight 1
    exact = count if truncate is None else truncate
    steps = [
        partial(denoising_step, predict, schedule, skip, index, index >= count - exact)
        for index in indices
    ]
    fixed = sum(index < count - exact for index in indices)
    x = run_steps(steps[:fixed], x, (lead, context), memory="fast")
    last = [_alone(step) for step in finish]
    return run_steps([*steps[fixed:], *last], x, (lead, context), memory=memory)


def noised(z: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:
    """x_T = sqrt(a_T) z + sqrt(1 - a_T) noise."""
    start = schedule.alphas[0]
    return start**0.5 * z + (1 - start) ** 0.5 * noise


def denoising_step(
    predict: Predict,
    schedule: Schedule,
    skip: Skip,
    index: int,
    exact: bool,
    x: Tensor,
    lead: Tensor | None,
    context: Tensor | None,
) -> Tensor:
    """x_(t-1) from x_t, in the precision of x whatever the network computes in.

    Args:
        predict: the guided network.
        schedule: of S steps.
        skip: form of the residual.
        index: of the step, from 0 at the noisiest.
        exact: whether gradients go through the network.
        x: (B, C, h, w) x_t.
        lead: what the skip mixes in: the clean z (`x0`) or x_T (`mean`).
        context: what `predict` sees beside x.
    """
    timestep = schedule.timesteps[index]
    prediction = predict(x, timestep, context) if exact else _fixed(predict, x, timestep, context)
    x0, epsilon = _split(prediction.to(x.dtype), x, schedule, index)
    count = len(schedule.timesteps)
    if skip == "x0" and lead is not None:
        weight = 1 - index / (count - 1)  # 1, ..., 0
        x0 = (1 - weight) * x0 + weight * lead
    after = schedule.previous[index]
    mean = after**0.5 * x0 + (1 - after) ** 0.5 * epsilon
    if skip == "mean" and lead is not None:
        weight = (count - index) / count  # t/T = 1, ..., 1/T (Eq. 7)
        mean = (1 - weight) * mean + weight * lead
    return mean


@torch.no_grad()
def _fixed(predict: Predict, x: Tensor, timestep: int, context: Tensor | None) -> Tensor:
    """A prediction that no gradient goes through."""
    return predict(x.detach(), timestep, None if context is None else context.detach())


def _alone(step: Step) -> Step:
    """A step of x alone among steps that share more."""
    return lambda x, lead, context: step(x)


def _split(prediction: Tensor, x: Tensor, schedule: Schedule, index: int) -> tuple[Tensor, Tensor]:
    """The clean image and the noise that a prediction at x_t stands for."""
    signal, sigma = schedule.alphas[index] ** 0.5, (1 - schedule.alphas[index]) ** 0.5
    if schedule.prediction == "v_prediction":
        return signal * x - sigma * prediction, signal * prediction + sigma * x
    return (x - sigma * prediction) / signal, prediction
