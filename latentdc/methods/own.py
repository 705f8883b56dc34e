"""A guide of one's own: something that makes a `Guide` for one batch of one class.

    def mine(anchors, scale): ...

is called by name with those of these that it takes: `scale`; `steps`, indices that it acts in or
None; `labels` (B,) and `class_name` of the batch; `anchors` (B, C, h, w), none where
`sampling.anchors.kind` is `none` or `gaussian`; `latents` (n, C, h, w) of the class's real images;
`finished` (M, C, h, w) latents of the class that were sampled before; `decode`, clean latents to
images in [-1, 1]; `ancestral`, whether steps add noise; `prior`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.sampler import Guide, StepState
from latentdc.recipe import Sampling
from latentdc.recipe.own import call, failed, resolve


class _Tried(Exception):
    """The step that a guide was tried on is over."""


def own_guides(settings: Sampling, prior: DiffusionPrior, **batch: Any) -> dict[str, Guide]:
    """Guides of one's own that are on, by what errors call them, in the order of `sampling.own`.

    `batch` is what is known of the batch: labels, class_name, anchors, latents, finished. A
    function that is not there, wants other arguments, fails or makes no guide is refused.
    """
    found = {}
    for at, one in enumerate(settings.own):
        if one.scale == 0:
            continue
        key = f"sampling.own.{at}.kind"
        made = call(
            resolve(one.kind, key),
            key,
            one.kind,
            scale=one.scale,
            steps=one.steps,
            decode=prior.render,
            ancestral=settings.eta > 0,
            prior=prior,
            **batch,
        )
        label = f"{key}={one.kind.partition('#')[0]}"
        if not isinstance(made, Guide):
            raise InputError(f"{label} made a {type(made).__name__}; it makes a latentdc.Guide.")
        found[label] = made if one.steps is None else replace(made, steps=one.steps)
    return found


@torch.no_grad()  # as `sampling` makes them
def try_own_guides(prior: DiffusionPrior, settings: Sampling, class_name: str, label: int) -> None:
    """One step of two random latents of some class through each guide of one's own.

    The label is that of the prior. Guides that fail, or return no state whose mean is finite and
    has the shape of the latents, are refused.
    """
    source = torch.Generator().manual_seed(0)

    def some(count: int) -> Tensor:
        drawn = torch.randn(count, *prior.latent_shape, generator=source)
        return drawn.to(prior.device)

    guides = own_guides(
        settings,
        prior,
        labels=torch.zeros(2, dtype=torch.long, device=prior.device),
        class_name=class_name,
        anchors=some(2 if settings.anchors.kind in ("centres", "medoids") else 0),
        latents=some(4).cpu(),
        finished=some(1),
    )
    walked = range(prior.start_index(settings.strength), len(prior.schedule.timesteps))
    for name, guide in guides.items():
        acting = [index for index in walked if guide.steps is None or index in guide.steps]
        if not acting:
            continue
        probe = replace(guide, correct=_probe(guide, name))
        images = [(class_name, number) for number in range(2)]
        try:
            prior.sample(
                torch.tensor([label, label]),
                images,
                x=some(2),
                start=acting[0],
                eta=settings.eta,
                guides=[probe],
            )
        except _Tried:
            continue


def _probe(guide: Guide, label: str) -> Callable[[StepState], StepState]:
    def correct(state: StepState) -> StepState:
        try:
            after = guide.correct(state)
        except InputError:
            raise
        except Exception as error:
            raise failed(label, "fails on two random latents", error) from error
        if not isinstance(after, StepState):
            raise InputError(
                f"{label} returns a {type(after).__name__}; a guide returns the state, with "
                "another mean, x0 or noise."
            )
        if after.mean.shape != state.x.shape:
            raise InputError(
                f"{label} gives a mean of shape {tuple(after.mean.shape)} to latents of shape "
                f"{tuple(state.x.shape)}."
            )
        if not after.mean.isfinite().all():
            raise InputError(f"{label}: the mean of two random latents is not finite.")
        raise _Tried

    return correct
