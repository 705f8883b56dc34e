"""Matching: latents are optimised until their images act on networks as the real ones do.

Moser et al., LD3M, Alg. 1 (https://arxiv.org/abs/2403.03881); over pixels it is DC, DM and MTT.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.methods.checks import check_match, check_parts
from latentdc.methods.context import ByClass, Context, State, check_call
from latentdc.methods.decode import settle_memory, show_latents, synthetic_set
from latentdc.methods.latents import (
    Latents,
    class_sizes,
    initial_latents,
    known_images,
    most_together,
    own_classes,
    restore_momentum,
    restored_latents,
    step_classes,
    tensors_by_class,
)
from latentdc.methods.log import StepLog, diverged, stopped
from latentdc.methods.loop import Work, match_steps, sums_images_by_class
from latentdc.methods.rates import make_optimizer, settle_rates
from latentdc.methods.real import RealBatches, Trimming, separable
from latentdc.modes import in_plain_modes
from latentdc.objectives.base import LEARNED_LR, Objective
from latentdc.priors.base import Prior
from latentdc.priors.memory import FAST
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Matching, identity
from latentdc.runtime import require_precision
from latentdc.synthetic.synthetic_set import SyntheticSet

_REAL = 256  # real images per class and step of an objective that does not say
_ADVICE = "Lower distill.lr_z or distill.lr_c"  # to one whose numbers are no longer finite
# Facts that a continued run need not share with its start.
_MAY_CHANGE = {"processes", "threads", "torch", "lr_z", "lr_c", *vars(FAST)}


def matching(
    coreset: Coreset, prior: Prior | None, settings: Matching, context: Context
) -> SyntheticSet:
    """`match`, as a method: the images of the core set are matched by the context's objective.

    Raises:
        InputError: there is no prior or objective, or as `match`.
    """
    check_call(coreset, settings, Matching, context)
    if prior is None or context.objective is None:
        raise InputError("matching takes a prior and Context(objective=...); give both.")
    return match(context.core_images(coreset), prior, context.objective, settings, context)


@in_plain_modes
def match(
    coreset: Dataset,
    prior: Prior,
    objective: Objective,
    settings: Matching | None = None,
    context: Context | None = None,
    *,
    z: Tensor | None = None,
) -> SyntheticSet:
    """Optimise `context.ipc` images per class so that they replace `coreset`.

    Args:
        coreset: real images to start from and to match; all of a data set or a pruned part.
        prior: the space to optimise in; an objective of latents has its own.
        objective: what to match, and on how many real images per class and step.
        settings: of the optimisation; None takes the defaults.
        context: ipc, seed, and what the caller does for the run; None keeps no state.
        z: (N, *latent_shape) latents to start from, class by class; None takes `settings.init`.

    Returns:
        The set, class by class: decoded images, and on the main process the z, c and noise
        behind them. Its provenance names the objective's `network`, which evaluation then knows as
        seen.

    Raises:
        InputError: classes, ipc, processes and objective that do not fit together, rates that move
            nothing, fp16, or a saved state of another set, or further on than `settings.steps`.
        RunError: the loss or the latents are no longer finite.
        Stopped: a process was sent SIGTERM, and the step that was then at work is kept.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> prior = latentdc.load_prior(latentdc.PriorSettings(kind="pixel"), resolution=8)
        >>> matched = latentdc.ObjectiveSettings(kind="dm", network="convnet3@8", batch=16)
        >>> objective = latentdc.build_objective(matched, num_classes=10, resolution=8)
        >>> settings = latentdc.Matching(steps=2, lr_z=10.0, lr_c=0)
        >>> latentdc.match(train, prior, objective, settings, latentdc.Context(ipc=1))
        SyntheticSet(10 images of 8 px, uint8, 10 classes: '0', '1', '2', ...; with z)
    """
    settings = Matching() if settings is None else settings
    context = Context() if context is None else context
    check_parts(coreset, prior, objective, settings, context)
    prior = getattr(objective, "space", prior)
    accelerator, steps, names = context.accelerator, settings.steps, coreset.class_names
    require_precision(accelerator)
    saved = context.saved_state()
    if z is None and saved is None and settings.init == "sampled":
        raise InputError("Matching(init='sampled') starts from latents; give match(..., z=...).")
    facts = _facts(coreset, prior, objective, settings, context)
    start = 0 if saved is None else _require_same(saved, facts, steps)
    check_match(class_sizes(coreset), prior, objective, settings, context, steps=steps - start)
    together = most_together(len(names), settings.classes_per_step, accelerator.num_processes)
    ipc = context.ipc if sums_images_by_class(objective) else None
    prior, plan = settle_memory(prior, together * context.ipc, saved, accelerator, ipc=ipc)
    facts |= plan
    work = _begin(coreset, prior, objective, settings, context, saved, z)
    settled = settle_rates(work, settings, saved)
    facts |= settled
    _optimise(work, start, settings, context, facts, names)
    made = synthetic_set(work.latents, prior, names, context)
    told = dict(settled)
    if (network := getattr(objective, "network", None)) is not None:
        told["network"] = network
    made = replace(made, provenance={**made.provenance, **told}) if told else made
    lr = objective.state().get(LEARNED_LR)
    return made if lr is None else replace(made, learned_lr=float(lr))


def _optimise(
    work: Work,
    start: int,
    settings: Matching,
    context: Context,
    facts: dict[str, Any],
    names: tuple[str, ...],
) -> None:
    """All steps from `start` on: told, shown and kept with the `facts` that a state belongs to."""
    objective, steps = work.objective, settings.steps
    log = StepLog(
        start=start,
        steps=steps,
        shared=objective.scope == "set",
        accelerator=work.accelerator,
        on_step=context.on_step,
        lrs={group["name"]: group["lr"] for group in work.optimizer.param_groups if group["lr"]},
        advice=_ADVICE,
    )
    with closing(log), context.stop_requests() as stop_requested:
        for step in match_steps(work, start, steps):
            parts = len(work.moved(step.index)) if objective.sums_classes else 1
            lr = objective.state().get(LEARNED_LR)
            log.record(step.loss, classes=parts, lr=lr, trimmed=step.trimmed)
            done = step.index + 1
            keeps = context.save_state is not None and done % settings.checkpoint_every == 0
            stops = done < steps and stop_requested()
            if done == steps or keeps or stops:
                log.flush()
                _require_finite(work.latents, done, work.accelerator)
                if context.save_state is not None:
                    context.save_state(_state(work, done, facts))
            if stops:
                raise stopped(f"step {done} of {steps}, which is")
            if settings.grid_every and done % settings.grid_every == 0:
                log.flush()  # trackers want steps in their order
                show_latents(done, work.latents, work.prior, names, context)


# ---- State ----


def _facts(
    coreset: Dataset, prior: Prior, objective: Objective, settings: Matching, context: Context
) -> dict[str, Any]:
    """What a state belongs to, in JSON's types."""
    trims = settings.trim.share > 0
    return {
        **context.facts(coreset, prior),
        "objective": getattr(objective, "identity", None),
        "batch": getattr(objective, "batch", _REAL),
        "classes_per_step": settings.classes_per_step,
        "optimizer": settings.optimizer,
        "trim": identity.facts_of(settings.trim) if trims else None,
        "processes": context.accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _begin(
    coreset: Dataset,
    prior: Prior,
    objective: Objective,
    settings: Matching,
    context: Context,
    saved: State | None,
    z: Tensor | None = None,
) -> Work:
    """New latents (of `z`, where it is given), or all that a state knows of the old ones."""
    accelerator, seed, num_classes = context.accelerator, context.seed, coreset.num_classes
    device, per_step = accelerator.device, settings.classes_per_step
    classes = own_classes(num_classes, accelerator.process_index, accelerator.num_processes)
    if saved is None:
        latents = initial_latents(
            coreset,
            prior,
            classes,
            ipc=context.ipc,
            seed=seed,
            from_noise=settings.init == "noise",
            given=z,
            device=device,
        )
    else:
        latents = restored_latents(saved, classes, device)
        objective.restore(saved.shared)
    optimizer = make_optimizer(latents, settings)
    needed = classes if objective.scope == "class" else range(num_classes)
    batch = getattr(objective, "batch", _REAL)
    real = RealBatches(coreset, needed, batch=batch, seed=seed, device=device)
    separate = separable(settings.trim, objective)
    trimming = None if separate is None else Trimming(settings.trim, separate, real)
    if saved is not None:
        restore_momentum(saved, latents, optimizer)
        if trimming is not None:
            trimming.restore(known_images(saved, needed))

    def moved(step: int) -> tuple[int, ...]:
        return step_classes(num_classes, per_step, step, seed)

    return Work(latents, prior, objective, real, optimizer, accelerator, moved, trimming)


def _state(work: Work, done: int, facts: dict[str, Any]) -> State:
    classes = work.latents.classes
    known = {} if work.trimming is None else work.trimming.state(classes)

    def tensors(some: Collection[int]) -> ByClass:
        return tensors_by_class(work.latents.pick(some), work.optimizer, known)

    return State(done, facts, classes, tensors, work.objective.state())


def _require_same(saved: State, facts: dict[str, Any], steps: int) -> int:
    """The step that a state is at; one of another set, or further on than `steps`, is refused."""
    saved.require_same({name: fact for name, fact in facts.items() if name not in _MAY_CHANGE})
    if saved.step > steps:
        raise InputError(
            f"{saved.place} is {saved.step} steps on, and steps={steps} lie behind it; ask for as "
            "many or more, or give the run another folder."
        )
    return saved.step


def _require_finite(latents: Latents, done: int, accelerator: Accelerator) -> None:
    """Stop all processes before broken latents take the place of a good state."""
    parts = [*latents.z, *(latents.c or ())]
    finite = torch.stack([part.detach().isfinite().all() for part in parts]).all()
    if accelerator.reduce((~finite).float(), "sum") > 0:
        raise diverged(f"latents are no longer finite after {done} steps", _ADVICE)
