"""The steps of a diffusion's schedule or of a flow, from the noisiest to the cleanest."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import diffusers
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.components import as_input_error
from latentdc.priors.files import read_json
from latentdc.recipe.fields import show
from latentdc.recipe.prior import Flow

_PREDICTIONS = ("epsilon", "v_prediction")
_SHARED = (  # of a sampler's config: what DDIM's steps follow beside the betas
    *("prediction_type", "timestep_spacing", "steps_offset"),
    *("set_alpha_to_one", "rescale_betas_zero_snr"),
)
_FLOW = "FlowMatchEulerDiscreteScheduler"
_UNKNOWN_FLOWS = {  # keys of a flow's config, and why they are refused
    "use_dynamic_shifting": "its steps depend on the image's size; set it to false, and shift",
    "invert_sigmas": "the direction of time is prior.flow.noise_at here; set it to false",
    "stochastic_sampling": "a flow is walked as an ODE here; set it to false",
}
_MOST_TIMESTEPS = 100_000  # of a schedule; more are a slip, and all of them would be computed


@dataclass(frozen=True)
class Schedule:
    """What the sampler needs of a DDIM schedule or a flow, from the noisiest step to the cleanest.

    At each step x_t = signal x0 + rest eps. Noise prediction has sqrt(a) and sqrt(1 - a); a flow
    has 1 - s and s, with s from 1 (noise) to 0.
    """

    # (S,) that the network is told: of the training schedule, descending; of a flow the times as it
    # counts them.
    timesteps: tuple[int, ...] | tuple[float, ...]
    alphas: tuple[float, ...]  # (S,) square of the signal's weight: the cumulated alpha
    previous: tuple[float, ...]  # (S,) likewise, that each step leads to
    # What the network predicts; a flow's velocity is noise - data or its opposite.
    prediction: Literal["epsilon", "v_prediction", "noise-data", "data-noise"]

    @property
    def is_flow(self) -> bool:
        """Whether steps are those of an ODE, without noise of their own."""
        return self.prediction in ("noise-data", "data-noise")

    def weights(self, alpha: float, sigma: float = 0.0) -> tuple[float, float]:
        """Signal and rest at one of the alphas, the rest without noise of deviation `sigma`."""
        signal = alpha**0.5
        if self.is_flow:
            return signal, 1 - signal
        return signal, max(0.0, 1 - alpha - sigma**2) ** 0.5  # rounding can make it negative

    def clean_and_noise(self, index: int, x: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) clean latents and noise that a prediction at x of a step stands for."""
        signal, rest = self.weights(self.alphas[index])
        if self.is_flow:  # velocity v = eps - x0
            v = prediction if self.prediction == "noise-data" else -prediction
            return x - rest * v, x + signal * v
        return separate(x, prediction, signal, rest, v=self.prediction == "v_prediction")


N = TypeVar("N", float, Tensor)


def separate(
    x: Tensor, prediction: Tensor, signal: N, rest: N, *, v: bool
) -> tuple[Tensor, Tensor]:
    """Clean latents and noise in x = signal x0 + rest eps, by a predicted eps or, if so, v.

    v = signal eps - rest x0, Salimans and Ho, https://arxiv.org/abs/2202.00512.
    """
    if v:
        return signal * x - rest * prediction, signal * prediction + rest * x
    return (x - rest * prediction) / signal, prediction


def load_scheduler(folder: Path) -> DDIMScheduler | FlowMatchEulerDiscreteScheduler:
    """The training schedule, sampled deterministically without clipping, as LD3M does.

    Of a config for another sampler (PNDM, Euler, ...) the betas, the kind of prediction and what
    DDIM shares with it count. A flow has FlowMatchEulerDiscreteScheduler's config, or one of its
    own: `prediction_type: flow`, for equal steps, and if need be `shift`.

    Raises:
        InputError: missing, without betas, or of a network that predicts something else.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        raise InputError(f"the prior {folder} lacks scheduler/scheduler_config.json.")
    given = read_json(path)
    if given.get("_class_name") == _FLOW or given.get("prediction_type") == "flow":
        return _flow_scheduler(path, given)
    _check_count(path, given)
    own = getattr(diffusers, str(given.get("_class_name")), None)
    if not isinstance(own, type) or hasattr(own, "_backends"):  # unknown, or it lacks packages
        own = DDIMScheduler if {"beta_start", "trained_betas"} & {*given} else object
    with as_input_error(f"{path} has no schedule"):
        if not hasattr(own, "from_config") or not hasattr(
            theirs := own.from_config(given | {"rescale_betas_zero_snr": False}), "betas"
        ):
            raise InputError(
                f"{path} is of a {given.get('_class_name')} and has no betas; a prior predicts "
                f"noise, as Stable Diffusion 1.5 and DiT do, or is a flow with a config of {_FLOW}."
            )
        betas = theirs.betas
        _check_betas(path, betas, theirs.config.num_train_timesteps)
        shared = {key: given[key] for key in _SHARED if key in given}
        scheduler = DDIMScheduler(
            **shared,
            num_train_timesteps=len(betas),
            trained_betas=betas.tolist(),
            clip_sample=False,
        )
        scheduler.set_timesteps(1)  # fails where its numbers are none
        scheduler.alphas_cumprod[int(scheduler.timesteps[0])]
    prediction = scheduler.config.prediction_type
    if prediction not in _PREDICTIONS:
        raise InputError(
            f"the prior {folder} predicts {prediction}, not {' or '.join(_PREDICTIONS)}."
        )
    return scheduler


def _flow_scheduler(path: Path, given: dict[str, Any]) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of a flow; `uniform` in its config stands for equal steps."""
    for key, why in _UNKNOWN_FLOWS.items():
        if given.get(key):
            raise InputError(f"{path} has {key}={show(given[key])}: {why}.")
    shift, uniform = given.get("shift", 1.0), given.get("_class_name") != _FLOW
    if type(shift) not in (int, float) or not 0 < shift < math.inf:
        raise InputError(f"{path} has no schedule: shift is a positive number, got {show(shift)}.")
    own = {"shift": shift} if uniform else given | {"shift": shift}
    with as_input_error(f"{path} has no schedule"):
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(own)
        scheduler.set_timesteps(2)
    scheduler.register_to_config(uniform=uniform)
    return scheduler


def _check_count(path: Path, given: dict[str, Any]) -> None:
    """Refuse timesteps that diffusers would take for something else, or compute for minutes."""
    for key in ("num_train_timesteps", "steps_offset"):
        value = given.get(key, 1)
        if type(value) is not int or not 0 <= value <= _MOST_TIMESTEPS:
            allowed = f"a whole number from 0 to {_MOST_TIMESTEPS:,}"
            raise InputError(f"{path} has no schedule: {key} is {allowed}, got {show(value)}.")


def _check_betas(path: Path, betas: Tensor, count: int) -> None:
    """Refuse betas that do not lead from an image to noise."""
    sound = bool((betas >= 0).all() and (betas <= 1).all() and betas.any())
    if betas.shape != (count,) or not sound:
        raise InputError(
            f"{path} has no schedule: betas are {count} numbers, one for each timestep, between 0 "
            f"and 1 and not all 0; here are {tuple(betas.shape)} between {float(betas.min()):.3g} "
            f"and {float(betas.max()):.3g}."
        )


def make_schedule(
    scheduler: DDIMScheduler | FlowMatchEulerDiscreteScheduler, steps: int, flow: Flow | None = None
) -> Schedule:
    """The schedule of `steps` denoising steps that diffusers' scheduler would walk.

    Raises:
        InputError: more steps than the training schedule has room for, noise to predict where
            nothing but noise is left, or a flow whose direction and scale are not given.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return _flow_schedule(scheduler, steps, flow or Flow())
    if flow is not None and flow != Flow():
        raise InputError(
            f"prior.flow is for flow matching, and this prior predicts "
            f"{scheduler.config.prediction_type}; leave it out."
        )
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


def _flow_schedule(scheduler: FlowMatchEulerDiscreteScheduler, steps: int, flow: Flow) -> Schedule:
    """Euler's steps from noise (s = 1) to data (s = 0).

    Flow matching: Lipman et al., ICLR 2023, https://arxiv.org/abs/2210.02747; rectified flow: Liu
    et al., ICLR 2023, https://arxiv.org/abs/2209.03003. SiT: Ma et al., ECCV 2024,
    https://arxiv.org/abs/2401.08740.
    """
    lacking = [f"prior.flow.{name}" for name, value in vars(flow).items() if value is None]
    if lacking:
        raise InputError(
            f"this prior is a flow, and published flows differ in {', '.join(lacking)}: give what "
            "its own code has (docs/priors.md)."
        )
    assert flow.time_scale is not None and flow.velocity is not None
    if scheduler.config.get("uniform"):
        scheduler.set_timesteps(sigmas=[1 - index / steps for index in range(steps)])
    else:
        scheduler.set_timesteps(steps)
    levels = [float(level) for level in scheduler.sigmas.double()]
    times = levels if flow.noise_at == 1 else [1 - level for level in levels]
    return Schedule(
        timesteps=tuple(flow.time_scale * time for time in times[:-1]),
        alphas=tuple((1 - level) ** 2 for level in levels[:-1]),
        previous=tuple((1 - level) ** 2 for level in levels[1:]),
        prediction=flow.velocity,
    )
