"""One step of the generator's part, ours and the released one, and how far their gradients are."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from released import CHUNK, Released

from latentdc import draws
from latentdc.priors.autoencoder import nearest_codes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import Plan

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # z, c, noise, dL/dimages


def plans(images: int, steps: int) -> dict[str, Plan]:
    """Everything kept, at once and half of the images at a time; some steps; nothing."""
    half, kept = max(1, images // 2), images * steps
    found = [Plan("fast"), Plan("fast", group=half)]
    found += [Plan("mixed", half, 1, kept_steps=kept * share // 4) for share in (3, 2, 1)]
    found += [Plan("low", size) for size in (CHUNK, 5, 2, 1) if size <= images]
    return {title(plan): plan for plan in found}


def title(plan: Plan) -> str:
    size = plan.group or plan.chunk
    together = "" if size is None else f", {size} at a time"
    return f"{plan.memory}{together}" + f", {plan.kept_steps} kept" * bool(plan.kept_steps)


def inputs(prior: DiffusionPrior, images: int) -> Inputs:
    source = draws.generator(0)
    z = torch.randn(images, *prior.latent_shape, generator=source)
    noise = torch.randn(z.shape, generator=source)
    gradient = torch.randn(images, 3, prior.resolution, prior.resolution, generator=source)
    labels = torch.arange(images, device=prior.device) % 10
    c = prior.condition(labels).detach().clone()
    on = (t.to(prior.device) for t in (z, noise, gradient))
    z, noise, gradient = on
    return z.requires_grad_(), c.requires_grad_(), noise, gradient


def our_step(prior: DiffusionPrior, plan: Plan, given: Inputs) -> None:
    """As a step of matching does it: a group of images after the other."""
    z, c, *_ = given
    prior.plan = plan
    z.grad = c.grad = None
    for *inputs, gradient in zip(*(t.split(plan.group or len(z)) for t in given), strict=True):
        prior.decode(*inputs).backward(gradient)


def released_step(plain: Released, given: Inputs) -> None:
    given[0].grad = given[1].grad = None
    plain.step(*given)


def gradients(work: Callable[[], None], given: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    work()
    return given[0].grad.clone(), given[1].grad.clone()


def compare(prior: DiffusionPrior, plain: Released, given: Inputs) -> None:
    """Print the relative distance of all gradients, with the reference's codes held."""
    seen: list[torch.Tensor] = []
    quantizer = getattr(prior.autoencoder.autoencoder, "quantize", None)
    if quantizer is not None:
        hook = plain.autoencoder.quantize.register_forward_hook(lambda *a: seen.append(a[-1][2][2]))
    wanted = gradients(partial(released_step, plain, given), given)
    start = given[0].detach() / prior.autoencoder.scale + prior.autoencoder.shift
    if quantizer is not None:
        hook.remove()

    def held(raw, codebook):
        codes = seen[0] if torch.equal(raw.detach(), start) else seen[-1]
        return codes.view(len(raw), *raw.shape[2:])

    def counted(raw, codebook):
        flips.append(int((nearest_codes(raw, codebook) != held(raw, codebook)).sum()))
        return held(raw, codebook)

    flips: list[int] = []
    place = "latentdc.priors.autoencoder.nearest_codes"
    for plan in (
        Plan("fast"),
        Plan("mixed", 5, 1, kept_steps=2 * len(given[0])),
        Plan("low", CHUNK),
    ):
        step = partial(our_step, prior, plan, given)
        with patch(place, counted):
            found = gradients(step, given)
        errors = (float((f - w).norm() / w.norm()) for f, w in zip(found, wanted, strict=True))
        print("  {:<7} dL/dz off by {:.1e}, dL/dc by {:.1e}".format(plan.memory, *errors))
    if flips:
        codes = 2 * given[0][:, 0].numel()
        print(f"  codes that ours would choose otherwise: {max(flips)} of {codes} (held for this)")
