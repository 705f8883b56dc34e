"""A frozen latent diffusion model as a prior: LD3M's decoding, and sampling and inversion.

Moser et al., "Unlocking Dataset Distillation with Diffusion Models", NeurIPS 2025,
https://arxiv.org/abs/2403.03881. Deviations from the released code: the noise of each image is
fixed and belongs to the set, and images enter the encoder in [-1, 1]. A residual carries z through
every step; both of its known forms are guides of the sampler.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import repeat
from numbers import Real

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latentdc.arguments import require_a
from latentdc.errors import InputError
from latentdc.images import contiguous
from latentdc.priors import sampler
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import (
    Denoiser,
    PrecisionName,
    middle_features,
    network_autocast,
    placed,
    require_finite,
    require_latents,
)
from latentdc.priors.memory import FAST, Needs, fixed_plan, needed_bytes
from latentdc.priors.schedule import Schedule
from latentdc.recipe import PriorSettings
from latentdc.recipe.fields import show


class DiffusionPrior:
    """z and c through a guided, deterministic denoising process and the decoder.

    Args:
        autoencoder: gives the latent space, and the identity of all weights.
        denoiser: the frozen conditional network.
        schedule: of the settings' steps.
        settings: guidance, skip, memory and chunk.
        class_names: that the denoiser's labels stand for; None if unknown.
        precision: of the denoiser; None takes the autoencoder's.
    """

    has_noise = True

    def __init__(
        self,
        autoencoder: AutoencoderPrior,
        denoiser: Denoiser,
        schedule: Schedule,
        settings: PriorSettings,
        *,
        class_names: tuple[str, ...] | None,
        precision: PrecisionName | None = None,
    ) -> None:
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.class_names = class_names
        self.schedule = schedule
        self.guidance = settings.guidance
        self.guided_channels = settings.guided_channels
        self.scale = _guidance_scale(settings, autoencoder)
        self.flow = settings.flow
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
        """Device of the weights."""
        return self.autoencoder.device

    @property
    def settings(self) -> dict[str, object]:
        """What decides, beside the weights, which images latents stand for, in JSON's types."""
        settings: dict[str, object] = {
            "steps": len(self.schedule.timesteps),
            "guidance": self.guidance,
            "skip": self.skip,
        }
        if self.guided_channels is not None:
            settings["guided_channels"] = self.guided_channels
        if self.schedule.is_flow:
            settings["flow"] = asdict(self.flow)
        return settings

    @property
    def calls(self) -> int:
        """Calls of the denoiser in one decode; the first result of the `mean` skip is z_T whole."""
        return len(self.schedule.timesteps) - (self.skip == "mean")

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape)."""
        return self.autoencoder.encode(images)

    def condition(self, labels: Tensor) -> Tensor | None:
        """(B,) labels of this prior's classes -> (B, T, D), None if unconditional.

        Raises:
            InputError: other labels, which are looked at on a CPU alone.
        """
        kinds = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
        whole = isinstance(labels, Tensor) and labels.ndim == 1 and labels.dtype in kinds
        known = None if self.class_names is None else len(self.class_names)
        if whole and known is not None and labels.device.type == "cpu":
            whole = bool(((labels >= 0) & (labels < known)).all())
        if not whole:
            raise InputError(
                f"labels are a tensor (B,) of whole numbers{f' below {known}' if known else ''}, "
                f"got {show(labels)}."
            )
        labels = placed(labels, self.device, torch.int64)
        return self.denoiser.condition(labels)

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """Denoise and decode: (B, *latent_shape), (B, T, D), noise like z -> (B, 3, H, W).

        In the precision and on the device of the weights; what is not finite stays so.

        Raises:
            InputError: z, c or noise of another kind or shape.
        """
        z = self._latents(z)
        noise = self._latents(noise, len(z), "noise")
        if c is None and self.denoiser.null.shape[1]:
            raise InputError("decode takes c (B, T, D), of prior.condition(labels), got None.")
        c = self._conditions(c, len(z))
        if not len(z):
            return self.render(z)
        plan = self.plan or FAST
        size = plan.together(len(z))
        conditions = repeat(None) if c is None else c.split(size)
        chunks = zip(z.split(size), conditions, noise.split(size), strict=False)
        kept_steps = plan.kept(len(z), self.calls)
        parts = [
            self.denoise(*chunk, kept=kept) for chunk, kept in zip(chunks, kept_steps, strict=True)
        ]
        return self.autoencoder.render(parts[0] if len(parts) == 1 else torch.cat(parts), plan)

    def denoise(
        self, z: Tensor, c: Tensor | None, noise: Tensor, *, kept: int | None = None
    ) -> Tensor:
        """(B, *latent_shape) latents at the end of the denoising process, all at once.

        With a graph that keeps the activations of the last `kept` steps; None is all.
        """
        if z.requires_grad and self.schedule.alphas[0] == 0 and self.skip != "x0":
            raise InputError(
                f"this prior starts from noise alone, where prior.skip={self.skip} leaves no way "
                "for a latent; set prior.skip=x0."
            )
        clean = self.autoencoder.quantize(z) if self.skip == "x0" else z
        context = self.context(c)
        x_T = sampler.noised(z, noise, self.schedule)
        count = len(self.schedule.timesteps)
        x0, mean = sampler.x0_skip(clean, count), sampler.mean_skip(x_T, count)
        guides = {"x0": [x0], "mean": [mean], "none": []}
        return sampler.sample(
            lambda x, timestep: self.predict(x, timestep, context),
            x_T.view_as(x_T),  # so that gradients are summed in the order of the steps
            self.schedule,
            start=int(self.skip == "mean"),  # whose first result is x_T, with weight 1
            guides=guides[self.skip],
            kept=kept,
        )

    def render(self, z: Tensor) -> Tensor:
        """(B, *latent_shape) clean latents -> (B, 3, H, W), differentiable; no denoising."""
        return self.autoencoder.render(z, self.plan or FAST)

    def start_index(self, strength: float) -> int:
        """Index of the first step (0 the noisiest) if a share of the schedule is walked.

        Args:
            strength: share in (0, 1]; 1 is the whole. Of S steps floor(S * strength) are walked,
                as in diffusers, and at least one.

        Raises:
            InputError: no such share.
        """
        if not isinstance(strength, Real) or not 0 < strength <= 1:
            raise InputError(
                f"strength is a share of the schedule in (0, 1], got {show(strength)}; "
                "1 starts from noise alone."
            )
        steps = len(self.schedule.timesteps)
        return steps - max(1, math.floor(steps * strength + 1e-9))

    def noised(
        self, z: Tensor, images: Sequence[tuple[str, int]], *, seed: int = 0, start: int = 0
    ) -> Tensor:
        """Clean latents as noisy as a step expects them, by the draws that `sample` starts from.

        Args:
            z: (B, *latent_shape).
            images: class name and number of each image.
            seed: of all draws.
            start: index of the step, 0 being the noisiest.
        """
        sampler.require_named(images, seed)
        z, start = require_finite(self._latents(z, len(images)), "z"), self._step(start, "start")
        noise = sampler.keyed_draw(seed, "sample", images, self.latent_shape).to(z)
        return sampler.noised(z, noise, self.schedule, start)

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor,
        images: Sequence[tuple[str, int]],
        *,
        seed: int = 0,
        start: int = 0,
        x: Tensor | None = None,
        eta: float = 1.0,
        guides: Sequence[sampler.Guide] = (),
        condition: Callable[[int], Tensor] | None = None,
    ) -> Tensor:
        """Clean latents of classes: ancestral sampling, or DDIM's, without LD3M's skip.

        The network sees as many images at once as `plan` says; guides see all of them.

        Args:
            labels: (B,) of this prior's classes.
            images: class name and number of each image, the keys of all its draws: an image is the
                same in any batch and process, up to rounding.
            seed: of all draws.
            start: index of the first step, 0 being the noisiest.
            x: (B, *latent_shape) latents that are as noisy as `start` expects: clean ones that
                `noised` made so (SDEdit, Meng et al., https://arxiv.org/abs/2108.01073), or those
                of `invert`. None starts from standard normal noise at step 0.
            eta: share of ancestral noise, from 0 (DDIM) to 1 (DDPM, with the variance that the
                network learned where it did).
            guides: correct each step, one after the other.
            condition: by index of a step, (B, T, D) conditions in place of those of the labels.

        Returns:
            (B, *latent_shape) latents, without a graph.

        Raises:
            InputError: arguments that do not go together.
        """
        sampler.require_named(images, seed)
        guides, start = sampler.require_guides(guides), self._step(start, "start")
        require_a(Tensor, labels, "labels", "(B,) of this prior's classes")
        if not isinstance(eta, Real) or not 0 <= eta <= 1:
            raise InputError(f"eta is a share of ancestral noise in [0, 1], got {show(eta)}.")
        if self.schedule.is_flow and eta != 0:
            raise InputError(
                f"this prior is a flow, whose steps add no noise: eta is 0, got {eta}."
            )
        if x is None and start != 0:
            raise InputError(
                f"start={start} needs x, such as clean latents by `noised`; noise alone is what "
                "step 0 starts from."
            )
        c = self.condition(labels)
        if len(labels) != len(images):
            raise InputError(f"sample has a label per image, got {len(labels)} of {len(images)}.")
        if condition is not None and not callable(condition):
            raise InputError(f"condition is a function of a step's index, got {show(condition)}.")
        if x is None:
            x = self._latents(sampler.keyed_draw(seed, "sample", images, self.latent_shape))
        else:
            x = require_finite(self._latents(x, len(images), "x"), "x")
        return sampler.sample(
            self._chunked_predict(condition or c, len(x)),
            x,
            self.schedule,
            start=start,
            eta=eta,
            noise=sampler.keyed_noise(seed, images, x),
            guides=guides,
        )

    @torch.no_grad()
    def invert(self, z: Tensor, labels: Tensor, *, stop: int = 0) -> Tensor:
        """DDIM backwards with this prior's guidance: latents as noisy as step `stop` expects them.

        `sample` with eta=0 leads from them back to z, the nearer the more steps and the less
        guidance the prior has.

        Args:
            z: (B, *latent_shape) clean latents.
            labels: (B,) of this prior's classes.
            stop: index of the step, 0 being the noisiest.
        """
        require_a(Tensor, labels, "labels", "(B,) of this prior's classes")
        c, stop = self.condition(labels), self._step(stop, "stop")
        z = require_finite(self._latents(z, len(labels)), "z")
        if not len(z):
            return z
        return sampler.invert(self._chunked_predict(c, len(z)), z, self.schedule, stop=stop)

    def features(self, x: Tensor, index: int, c: Tensor | None) -> Tensor:
        """(B, D, ...) of the denoiser's middle block at x_t, differentiable in x and c.

        Args:
            x: (B, *latent_shape) as noisy as the step expects them.
            index: of the step, 0 being the noisiest.
            c: (B, T, D) conditions; None takes the null condition, if the prior has one.

        Raises:
            InputError: a network whose middle is unknown, or one that is compiled.
        """
        x, time, c = self._denoiser_inputs(x, index, c)
        with network_autocast(x.device, self.precision):
            return middle_features(self.denoiser, contiguous(x), time, c).to(x.dtype)

    def noise_in(
        self, x: Tensor, index: int, c: Tensor | None, *, told: int | None = None
    ) -> Tensor:
        """(B, *latent_shape) the noise that the denoiser sees in x_t, differentiable in x and c.

        Without guidance, and in the precision of x.

        Args:
            x: (B, *latent_shape) as noisy as the step expects them.
            index: of the step, 0 being the noisiest.
            c: (B, T, D) conditions; None takes the null condition, if the prior has one.
            told: timestep that the network is told in place of the step's.
        """
        x, time, c = self._denoiser_inputs(x, index, c)
        time = time if told is None else torch.full_like(time, told)
        with network_autocast(x.device, self.precision):
            prediction = self.denoiser(contiguous(x), time, c)[:, : x.shape[1]].to(x.dtype)
        return self.schedule.clean_and_noise(index, x, prediction)[1]

    def _denoiser_inputs(
        self, x: Tensor, index: int, c: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the denoiser is told: latents, the timestep of a step, and `c` or the null one."""
        x, null = self._latents(x, name="x", least=1), self.denoiser.null
        time = self.timesteps[self.schedule.timesteps[self._step(index, "index")]]
        c = null.expand(len(x), -1, -1) if c is None else c
        return x, time, self._conditions(c, len(x))

    def _step(self, index: object, name: str) -> int:
        """The index of a step as Python's."""
        steps, found = len(self.schedule.timesteps), sampler.as_whole(index)
        if found is None or not 0 <= found < steps:
            raise InputError(f"{name} is the index of a step, 0 to {steps - 1}, got {show(index)}.")
        return found

    def _latents(
        self, x: object, count: int | None = None, name: str = "z", least: int = 0
    ) -> Tensor:
        """(count, *latent_shape) where the network is, and in the precision that it has."""
        x = require_latents(x, self.latent_shape, name, count=count, least=least)
        return placed(x, self.device, self.denoiser.null.dtype)

    def _conditions(self, c: object, count: int) -> Tensor | None:
        """(count, T, D) likewise; None of a network that takes none."""
        null = self.denoiser.null
        if not null.shape[1]:
            return None
        c = require_latents(c, null.shape[1:], "c", count=count)
        return placed(c, self.device, null.dtype)

    def _chunked_predict(
        self, c: Tensor | Callable[[int], Tensor] | None, count: int
    ) -> sampler.Predict:
        """`predict` of `count` images under conditions, as many at once as the plan says."""
        plan = self.plan or FAST
        size = plan.together(count)

        def contexts_of(c: Tensor | None) -> Iterable[Tensor | None]:
            return repeat(None) if c is None else [self.context(part) for part in c.split(size)]

        fixed = () if callable(c) else contexts_of(c)

        def predict(x: Tensor, timestep: float) -> sampler.Prediction:
            contexts, parts = fixed, []
            if callable(c):
                of_step = c(self.schedule.timesteps.index(timestep))
                contexts = contexts_of(self._conditions(of_step, count))
            for part, context in zip(x.split(size), contexts, strict=False):
                if torch.is_grad_enabled() and plan.memory != "fast":
                    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
                    parts.append(again(self.predict, part, timestep, context))
                else:
                    parts.append(self.predict(part, timestep, context))
            return sampler.Prediction.joined(parts)

        return predict

    def needs(self) -> Needs:
        """What backward keeps of one image, measured on one step and the decoder."""
        c = self.condition(torch.zeros(1, dtype=torch.long, device=self.device))
        z = torch.zeros(1, *self.latent_shape, device=self.device, requires_grad=True)
        last = self.schedule.timesteps[-1]

        def step() -> Tensor:
            context = self.context(None if c is None else c.detach().requires_grad_())
            return self.predict(z, last, context).guided

        return needed_bytes(lambda: self.autoencoder.decode_chunk(z), step, self.calls)

    def context(self, c: Tensor | None) -> Tensor | None:
        """What the denoiser sees in every step: null conditions first, where guidance needs them.

        (B, T, D) conditions -> (2B or B, T, D), None if unconditional.
        """
        if c is None or self.guidance == 1:
            return c
        return torch.cat([self.denoiser.null.expand_as(c), c])

    def predict(self, x: Tensor, timestep: float, context: Tensor | None) -> sampler.Prediction:
        """The guided prediction at x_t, e(x, 0) + s (e(x, c) - e(x, 0)), and what it is made of."""
        time, channels = self.timesteps[timestep], x.shape[1]
        guided = context is not None and self.guidance != 1
        with network_autocast(x.device, self.precision):
            both = torch.cat([x, x]) if guided else x
            output = self.denoiser(contiguous(both), time, context)
        ranges = output[-len(x) :, channels:].to(x.dtype) if output.shape[1] > channels else None
        prediction = output[:, :channels].to(x.dtype)
        if not guided:
            return sampler.Prediction(prediction, ranges)
        without, under = prediction.chunk(2)
        return sampler.Prediction(
            without + self.scale * (under - without), ranges, under, self.scale
        )


def _guidance_scale(settings: PriorSettings, space: AutoencoderPrior) -> Tensor | float:
    """Scale of guidance; where it acts in the first channels alone, (C, 1, 1) with 1 in others."""
    some, channels = settings.guided_channels, space.latent_shape[0]
    if some is None:
        return settings.guidance
    if some > channels:
        raise InputError(
            f"prior.guided_channels is at most the {channels} channels of a latent, got {some}; "
            "leave it out to guide all of them."
        )
    scale = torch.ones(channels, 1, 1, device=space.device)
    scale[:some] = settings.guidance
    return scale
