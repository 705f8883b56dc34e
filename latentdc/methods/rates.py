"""The optimiser of z and c, and rates that are chosen from the sizes of z, c and their gradients.

Rates in the papers run from 0.1 to 1000, because spaces and objectives have units of their own: a
rate that suits one ruins another. What they have in common is by how much of its own size a step
moves z.
"""

from typing import Any

import torch
from torch import Tensor

from latentdc.methods.context import State
from latentdc.methods.latents import Latents
from latentdc.methods.log import diverged
from latentdc.methods.loop import Work, latent_gradient
from latentdc.ranks import say
from latentdc.recipe import Matching

# Share of its own size by which a step moves z, with gradients like the first and full momentum.
MOVE = 0.06
PROBES = 4  # gradients that sizes are taken of, under students and real images of no step
FIRST_PROBE = 2**31  # their number at least, where a step would have its own


def make_optimizer(latents: Latents, settings: Matching) -> torch.optim.Optimizer:
    """SGD or Adam over z and c, with rates of their own; a rate of 0 leaves its tensors alone.

    A class that a step does not decode gets no gradient, so that neither it nor its momentum moves:
    each class is optimised as if the steps that meet it were all there are.
    """
    groups = []
    for name, rate, moves, parts in (
        ("lr_z", settings.lr_z, settings.moves("lr_z"), latents.z),
        ("lr_c", settings.lr_c, settings.moves("lr_c"), latents.c),
    ):
        if parts is not None:
            leaves = [part.requires_grad_(moves) for part in parts]
            groups.append({"params": leaves, "lr": 0.0 if rate == "auto" else rate, "name": name})
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum)


def settle_rates(work: Work, settings: Matching, saved: State | None) -> dict[str, float]:
    """Give the optimiser the rates that are `auto`, the same on all processes.

    A rate is MOVE (1 - momentum) rms(z) / rms(gradient): as large as makes steps of the first
    gradients, with momentum, move z by the share MOVE of its own size, whatever the units of the
    space and of the objective are. The share was measured (docs/methods.md). The test split has no
    part in it. A continued run keeps the rates that it began with.

    Returns:
        The chosen rates by their settings' names, facts for states and for the set.

    Raises:
        RunError: no gradient to take the size of.
    """
    auto = [one for one in work.optimizer.param_groups if getattr(settings, one["name"]) == "auto"]
    if not auto:
        return {}
    known = {} if saved is None else saved.facts
    sizes = None
    if any(group["name"] not in known for group in auto):
        sizes = _sizes(work, auto)
    rates: dict[str, float] = {}
    for place, group in enumerate(auto):
        name = group["name"]
        if sizes is None:
            rate = float(known[name])
        else:
            value, gradient = sizes[place].tolist()
            rate = MOVE * (1 - settings.momentum) * (value / gradient) ** 0.5 if gradient else 0.0
        if not 0 < rate <= 1e38:
            raise diverged(
                f"distill.{name}=auto found no rate by {PROBES} gradients",
                f"Give distill.{name} one",
            )
        rates[name] = group["lr"] = rate
        say("note", f"distill.{name}: {rate:.3g}, chosen by {PROBES} gradients")
    return rates


def _sizes(work: Work, groups: list[dict[str, Any]]) -> Tensor:
    """(groups, 2) sums of squares of the values and of their gradients, over all processes."""
    sums = torch.zeros(len(groups), 2, dtype=torch.float64)
    learned = {name: tensor.clone() for name, tensor in work.objective.state().items()}
    period = getattr(work.objective, "period", 1)
    first = -(-FIRST_PROBE // period) * period  # a student of several steps begins there
    for index in range(first, first + PROBES):
        moved = work.latents.pick(work.moved(index))
        if moved.classes:
            latent_gradient(work, index, moved, None)
        for place, group in enumerate(groups):
            for leaf in group["params"]:
                if leaf.grad is not None and moved.classes:
                    squares = (
                        leaf.detach().double().square().sum(),
                        leaf.grad.double().square().sum(),
                    )
                    sums[place] += torch.stack(squares).cpu()
    work.objective.restore(learned)
    work.optimizer.zero_grad(set_to_none=True)
    total: Tensor = work.accelerator.reduce(sums.to(work.accelerator.device), "sum")
    return total.cpu()
