"""The optimiser of z and c, and rates that are chosen by short trials.

Rates in the papers run from 0.1 to 1000, because spaces and objectives have units of their own: a
rate that suits one ruins another. By how much of its own size a step moves z is alike to within a
factor of ten; which of the rates around it lowers the objective most, trials tell.
"""

import math
import time
from dataclasses import replace
from typing import Any

import torch

from latentdc.errors import counted
from latentdc.methods.context import State
from latentdc.methods.latents import Latents, PerClass
from latentdc.methods.log import diverged
from latentdc.methods.loop import Work, latent_gradient
from latentdc.ranks import progress, say
from latentdc.recipe import Matching

# Share of its own size by which a step of the first trial moves z, with gradients like those at the
# start and full momentum.
MOVE = 0.06
FACTOR = 3.0  # from one rate that is tried to the next
TRIALS = 5  # at most
_PER_TRIAL, _LONGEST = 5, 20  # steps of a run for each of a trial, and of a trial at most
_ENOUGH = 0.95  # of what the best trial lowers the objective by; the lowest rate that does is taken
FIRST_TRIED = 2**31  # number of the steps of trials at least, where a run would have its own


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


def settle_rates(work: Work, settings: Matching, saved: State | None) -> dict[str, Any]:
    """Give the optimiser the rates that are `auto`, the same on all processes.

    A first rate is MOVE (1 - momentum) rms(z) / rms(gradient): as large as makes steps of the first
    gradients, with momentum, move z by the share MOVE of its own size, whatever the units of the
    space and of the objective are; of c likewise. Trials multiply both by 3, and again, while that
    lowers the objective further, or divide by 3. All start from the same latents, and have the
    same students and real images, which no step of the run has. The lowest rate is taken whose
    trial lowers the objective by 95 % of what the best does: short trials favour large rates. A run
    of fewer than 10 steps takes the first. A run that moves each class more often than 100 times
    divides the rate by the square root of how many times as often: the longer stochastic gradient
    descent is to run at one rate, the lower the best one, by that root (Nemirovski et al., "Robust
    Stochastic Approximation Approach to Stochastic Programming", SIAM J. Optim. 2009).
    docs/records/digits.md measures it. The test split has no part in them. A continued run keeps
    the rates that it began with.

    Returns:
        Facts for states and for the set: the chosen rates by their settings' names, and `seconds`
        of the stage `rates`.

    Raises:
        RunError: no gradient to take the size of, or no trial stays finite.
    """
    groups = work.optimizer.param_groups
    auto = [group["name"] for group in groups if getattr(settings, group["name"]) == "auto"]
    if not auto or settings.steps == 0:
        return {}
    known = {} if saved is None else saved.facts
    rates = {name: float(known[name]) for name in auto if name in known}
    seconds = known.get("seconds")
    if len(rates) < len(auto) and (saved is None or saved.step < settings.steps):
        began = time.perf_counter()
        rates |= _chosen(work, settings, [name for name in auto if name not in rates])
        seconds = {"rates": round(time.perf_counter() - began, 4)}
    for group in groups:
        group["lr"] = rates.get(group["name"], group["lr"])
    return rates if seconds is None else {**rates, "seconds": seconds}


def _trial_steps(settings: Matching) -> int:
    """Steps of each trial, and gradients at the start beside them."""
    return max(1, min(_LONGEST, settings.steps // _PER_TRIAL))


def _updates(work: Work, settings: Matching) -> float:
    """How often the run moves each class."""
    classes = work.real.dataset.num_classes
    return settings.steps / math.ceil(classes / (settings.classes_per_step or classes))


def most_trial_steps(settings: Matching, *, conditioned: bool) -> int:
    """Of all trials, at most; none where all rates are numbers.

    `conditioned` says whether latents have conditions, which `lr_c` moves.
    """
    asked = settings.lr_z == "auto" or (conditioned and settings.lr_c == "auto")
    if settings.steps == 0 or not asked:
        return 0
    steps = _trial_steps(settings)
    return steps if steps == 1 else (1 + TRIALS) * steps


def _chosen(work: Work, settings: Matching, auto: list[str]) -> dict[str, float]:
    """The rates of these names."""
    steps = _trial_steps(settings)
    start, sizes = _trial(work, settings, dict.fromkeys(auto, 0.0), steps)
    first = {}
    for name in auto:
        value, gradient = sizes[name]
        if name == "lr_c" and gradient == 0:  # at guidance 0 the denoiser is asked for no class
            first[name] = 0.0
            continue
        rate = MOVE * (1 - settings.momentum) * (value / gradient) ** 0.5 if gradient else 0.0
        if not 0 < rate <= 1e38:
            raise diverged(
                f"distill.{name}=auto found no rate by {counted(steps, 'gradient')}",
                f"Give distill.{name} one",
            )
        first[name] = rate
    losses: dict[float, float] = {}

    def loss(factor: float) -> float:
        rates = {name: factor * rate for name, rate in first.items()}
        losses[factor], _ = _trial(work, settings, rates, steps)
        return losses[factor]

    factor, lower = 1.0, 1.0
    if steps > 1:  # the loss of a single step is of before it
        best = loss(factor)
        for along in (FACTOR, 1 / FACTOR) if best < math.inf else (1 / FACTOR,):
            factor = along
            while len(losses) < TRIALS and (loss(factor) < best or best == math.inf):
                best, factor = losses[factor], factor * along
            if best < losses[1.0]:
                break
        if best == math.inf:
            raise diverged("no trial of distill.lr_z=auto stays finite", "Give it a number")
        factor = min(losses, key=lambda tried: losses[tried])
        if best < start:
            enough = start - _ENOUGH * (start - best)
            factor = min(tried for tried, lost in losses.items() if lost <= enough)
        lower = max(1.0, _updates(work, settings) / (_PER_TRIAL * _LONGEST)) ** 0.5
        factor /= lower
    rates = {name: factor * rate for name, rate in first.items()}
    tried = f"{counted(len(losses), 'trial')} of {counted(steps, 'step')}"
    for name, rate in rates.items():
        by = tried if losses else counted(steps, "gradient")
        by += f", and divided by {lower:.3g}, as the run is longer" if lower > 1 else ""
        say("note", f"distill.{name}: {rate:.3g}, chosen by {by}")
    return rates


def _trial(
    work: Work, settings: Matching, rates: dict[str, float], steps: int
) -> tuple[float, dict[str, tuple[float, float]]]:
    """The objective after some steps from the start, and the sizes of values and gradients.

    The steps move copies, under students and real images of no step of the run; names without a
    rate take the setting's. The objective is the mean of the latter half of the steps, infinite
    where it is no number; sizes are sums of squares of all steps, by the settings' names.
    """

    def copies(parts: PerClass | None) -> PerClass | None:
        return None if parts is None else tuple(part.detach().clone() for part in parts)

    own = work.latents
    latents = replace(own, z=copies(own.z) or (), c=copies(own.c))
    optimizer = make_optimizer(latents, settings)
    for group in optimizer.param_groups:
        group["lr"] = rates.get(group["name"], group["lr"])
    tried = replace(work, latents=latents, optimizer=optimizer, trimming=None)
    learned = {name: tensor.clone() for name, tensor in work.objective.state().items()}
    period = getattr(work.objective, "period", 1)
    first = -(-FIRST_TRIED // period) * period  # a student of several steps begins there
    moved = latents.pick(work.moved(first))
    names = [group["name"] for group in optimizer.param_groups]
    sums = torch.zeros(1 + 2 * len(names), dtype=torch.float64, device=work.accelerator.device)
    for index in progress(range(steps if moved.classes else 0), "trial of rates", leave=False):
        lost = latent_gradient(tried, first + index, moved)
        if index >= steps // 2:
            sums[0] += lost.double() / (steps - steps // 2)
        for place, group in enumerate(optimizer.param_groups):
            for leaf in group["params"]:
                if leaf.grad is not None:
                    sums[1 + 2 * place] += leaf.detach().double().square().sum()
                    sums[2 + 2 * place] += leaf.grad.double().square().sum()
        optimizer.step()
    work.objective.restore(learned)
    loss, *sizes = work.accelerator.reduce(sums, "sum").tolist()
    squares = dict(zip(names, zip(sizes[::2], sizes[1::2], strict=True), strict=True))
    return loss if math.isfinite(loss) else math.inf, squares
