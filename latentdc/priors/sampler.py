"""LD3M's deterministic DDIM sampler with a residual that carries z through every step.

Moser et al., "Unlocking Dataset Distillation with Diffusion Models", NeurIPS 2025,
https://arxiv.org/abs/2403.03881; DDIM: Song et al., https://arxiv.org/abs/2010.02502 (eta = 0, so
that decoding is a function). Two forms of the residual are known and both are here:

- `x0`, the released code: the clean z is mixed into the predicted x0 with weights 1, ..., 0;
- `mean`, Eq. 7 of the paper: the noisy z_T is mixed into the mean of each step with weights t/T.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from diffusers import DDIMScheduler
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Skip = Literal["x0", "mean", "none"]


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
    """The schedule of `steps` denoising steps that diffusers' scheduler would walk."""
    scheduler.set_timesteps(steps)
    timesteps = [int(t) for t in scheduler.timesteps]
    cumulated = [float(alpha) for alpha in scheduler.alphas_cumprod.double()]
    stride = scheduler.config.num_train_timesteps // steps
    final = float(scheduler.final_alpha_cumprod)
    return Schedule(
        timesteps=tuple(timesteps),
        alphas=tuple(cumulated[t] for t in timesteps),
        previous=tuple(cumulated[t - stride] if t >= stride else final for t in timesteps),
        prediction=scheduler.config.prediction_type,
    )


def sample(
    predict: Callable[[Tensor, int], Tensor],
    z: Tensor,
    noise: Tensor,
    schedule: Schedule,
    *,
    skip: Skip,
    clean: Tensor | None = None,
    recompute: bool = False,
) -> Tensor:
    """Noise z to the last timestep and denoise it again, z leading the way through the skip.

    Args:
        predict: the guided network, (x_t (B, C, h, w), timestep) -> prediction, same shape.
        z: (B, C, h, w) latents.
        noise: (B, C, h, w) fixed standard normal draw of each image.
        schedule: of S steps; S >= 2 with a skip.
        skip: form of the residual.
        clean: what the `x0` skip mixes in, where that is not z (a quantised z).
        recompute: keep only each x_t and run every step again in backward.

    Returns:
        (B, C, h, w) denoised latents, differentiable in z and in what `predict` closes over.
    """
    clean = z if clean is None else clean
    start = schedule.alphas[0]
    x_T = start**0.5 * z + (1 - start) ** 0.5 * noise
    count = len(schedule.timesteps)

    def step(x: Tensor, index: int, clean: Tensor, x_T: Tensor) -> Tensor:
        x0, epsilon = _split(predict(x, schedule.timesteps[index]), x, schedule, index)
        if skip == "x0":
            weight = 1 - index / (count - 1)  # 1, ..., 0
            x0 = (1 - weight) * x0 + weight * clean
        after = schedule.previous[index]
        mean = after**0.5 * x0 + (1 - after) ** 0.5 * epsilon
        if skip == "mean":
            weight = (count - index) / count  # t/T = 1, ..., 1/T (Eq. 7)
            mean = (1 - weight) * mean + weight * x_T
        return mean

    x = x_T
    for index in range(count):
        if recompute:
            x = checkpoint(
                step, x, index, clean, x_T, use_reentrant=False, preserve_rng_state=False
            )
        else:
            x = step(x, index, clean, x_T)
    return x


def _split(prediction: Tensor, x: Tensor, schedule: Schedule, index: int) -> tuple[Tensor, Tensor]:
    """The clean image and the noise that a prediction at x_t stands for."""
    signal, sigma = schedule.alphas[index] ** 0.5, (1 - schedule.alphas[index]) ** 0.5
    if schedule.prediction == "v_prediction":
        return signal * x - sigma * prediction, signal * prediction + sigma * x
    return (x - sigma * prediction) / signal, prediction
