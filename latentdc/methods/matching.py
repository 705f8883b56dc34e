"""Matching: latents are optimised until their images act on networks as the real ones do.

Moser et al., LD3M, Alg. 1 (https://arxiv.org/abs/2403.03881); over pixels it is DC, DM and MTT. A
step runs the prior once: the objective's gradient is taken at the decoded images and sent back
through the graph that decoded them.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import runtime
from latentdc.data.dataset import Dataset, different_counts, hash_samples
from latentdc.errors import InputError
from latentdc.methods.checks import check_match, check_parts, check_precision
from latentdc.methods.context import ByClass, Context, State
from latentdc.methods.decode import show_latents, synthetic_set
from latentdc.methods.latents import (
    Latents,
    initial_latents,
    known_images,
    most_together,
    own_classes,
    restore_momentum,
    restored_latents,
    step_classes,
    tensors_by_class,
)
from latentdc.methods.log import StepLog, diverged
from latentdc.methods.real import RealBatches, Trimming, separable
from latentdc.objectives.base import LEARNED_LR, Objective
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import Plan, choose_plan, describe_plan, free_bytes
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Matching
from latentdc.runtime import gather_rows, with_gradients
from latentdc.synthetic.synthetic_set import SyntheticSet

BATCH = 256  # real images per class and step of an objective that does not say
ADVICE = "Lower distill.lr_z or distill.lr_c"  # to one whose numbers are no longer finite
# Facts that a continued run need not share with its start.
MAY_CHANGE = ("memory", "chunk", "processes", "threads", "torch")


def matching(
    coreset: Coreset, prior: Prior | None, settings: Matching, context: Context
) -> SyntheticSet:
    """`match`, as a method: the images of the core set are matched by the context's objective.

    Raises:
        InputError: there is no prior or objective, or as `match`.
    """
    if prior is None or context.objective is None:
        raise InputError("matching takes a prior and Context(objective=...); give both.")
    train = context.real_images()
    real = train.select(coreset.indices(train))
    return match(real, prior, context.objective, settings, context)


@with_gradients
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
        behind them.

    Raises:
        InputError: classes, ipc, processes and objective that do not fit together, rates that move
            nothing, fp16, or a saved state of another set, or further on than `settings.steps`.
        RunError: the loss or the latents are no longer finite.
    """
    settings = Matching() if settings is None else settings
    context = Context() if context is None else context
    check_parts(coreset, prior, objective, settings, context)
    prior = getattr(objective, "space", prior)
    accelerator, steps, names = context.accelerator, settings.steps, coreset.class_names
    check_precision(accelerator)
    saved = None if context.load_state is None else context.load_state()
    if z is None and saved is None and settings.init == "sampled":
        raise InputError("Matching(init='sampled') starts from latents; give match(..., z=...).")
    facts = _facts(coreset, prior, objective, settings, context)
    start = 0 if saved is None else _require_same(saved, facts, steps)
    counts = different_counts(coreset).tolist()
    check_match(names, counts, prior, objective, settings, context, steps=steps - start)
    together = most_together(len(names), settings.classes_per_step, accelerator.num_processes)
    facts |= settle_memory(prior, together * context.ipc, saved, accelerator)
    work = _begin(coreset, prior, objective, settings, context, saved, z)
    log = StepLog(
        start=start,
        steps=steps,
        shared=objective.scope == "set",
        accelerator=accelerator,
        on_step=context.on_step,
        advice=ADVICE,
    )
    with closing(log):
        for step in match_steps(work, start, steps):
            parts = len(work.moved(step.index)) if objective.sums_classes else 1
            lr = objective.state().get(LEARNED_LR)
            log.record(step.loss, classes=parts, lr=lr, trimmed=step.trimmed)
            done = step.index + 1
            keep = context.save_state is not None and done % settings.checkpoint_every == 0
            if done == steps or keep:
                log.flush()
                _require_finite(work.latents, done, accelerator)
                if context.save_state is not None:
                    context.save_state(_state(work, done, facts))
            if settings.grid_every and done % settings.grid_every == 0:
                show_latents(done, work.latents, prior, names, context)
    made = synthetic_set(work.latents, prior, names, context)
    lr = objective.state().get(LEARNED_LR)
    return made if lr is None else replace(made, learned_lr=float(lr))


# ---- The loop ----


@dataclass(frozen=True, eq=False)
class Work:
    """What a process optimises, and what with.

    Attributes:
        latents: of the classes that this process owns.
        prior: decodes them.
        objective: compares them with real images.
        real: of the classes that the objective will ask for.
        optimizer: over the latents.
        accelerator: gives device, precision and the other processes.
        moved: step -> ascending labels of the classes that it moves, whoever owns them.
        trimming: of the batches of `real`; None leaves them whole.
    """

    latents: Latents
    prior: Prior
    objective: Objective
    real: RealBatches
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    moved: Callable[[int], tuple[int, ...]]
    trimming: Trimming | None = None


@dataclass(frozen=True)
class Step:
    """One finished update.

    Attributes:
        index: of the step, from 0.
        loss: () detached, of the classes this process moved (of all, where scope is `set`).
        trimmed: () share of their real batches that was left out, likewise summed over the classes;
            None where none is.
    """

    index: int
    loss: Tensor
    trimmed: Tensor | None = None


def match_steps(work: Work, start: int, steps: int) -> Iterator[Step]:
    """Update the latents in place from step `start` until `steps` are done.

    Logging and saving are the caller's.
    """
    accelerator, trimming = work.accelerator, work.trimming
    judges_images = getattr(work.objective, "space", None) is None
    for index in range(start, steps):
        moved = work.latents.pick(work.moved(index))
        if not moved.classes:
            nothing = torch.zeros((), device=accelerator.device)
            yield Step(index, nothing, None if trimming is None else nothing)
            continue
        if work.objective.scope == "class" and judges_images:
            work.real.expect(index, moved.classes)
        work.optimizer.zero_grad(set_to_none=True)
        with accelerator.autocast():
            decoded = moved.decode(work.prior) if judges_images else torch.cat(moved.z)
        gradient, loss = image_gradient(
            work.objective, index, decoded, moved.labels, work.real, accelerator, trimming
        )
        if decoded.requires_grad:
            decoded.backward(gradient.to(decoded.dtype))
        work.optimizer.step()
        yield Step(index, loss, None if trimming is None else trimming.left_out.to(loss.device))


def image_gradient(
    objective: Objective,
    step: int,
    decoded: Tensor,
    labels: Tensor,
    real: RealBatches,
    accelerator: Accelerator,
    trimming: Trimming | None = None,
) -> tuple[Tensor, Tensor]:
    """The objective's gradient at this process's images, (N, 3, H, W), and its loss, ().

    Where classes act on each other, all processes' images are gathered without their graphs, the
    objective runs identically everywhere, and each process keeps the gradient of its own images.
    """
    images, first = decoded.detach().float(), 0
    if objective.scope == "set" and accelerator.num_processes > 1:
        images, first = gather_rows(images, accelerator)
        labels = gather_rows(labels.to(images.device), accelerator)[0].cpu()
    if trimming is not None:
        trimming.update(step, images, labels)
    images = images.requires_grad_()
    with accelerator.autocast():
        loss = objective.accumulate(step, images, labels, real)
    assert images.grad is not None
    return images.grad[first : first + len(decoded)], loss


def make_optimizer(latents: Latents, settings: Matching) -> torch.optim.Optimizer:
    """SGD or Adam over z and c, with rates of their own; a rate of 0 leaves its tensors alone.

    A class that a step does not decode gets no gradient, so that neither it nor its momentum moves:
    each class is optimised as if the steps that meet it were all there are.
    """
    groups = []
    for parts, lr in ((latents.z, settings.lr_z), (latents.c, settings.lr_c)):
        if parts is not None:
            groups.append({"params": [part.requires_grad_(lr > 0) for part in parts], "lr": lr})
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.SGD(groups, lr=settings.lr_z, momentum=settings.momentum)


def settle_memory(
    prior: Prior, images: int, saved: State | None, accelerator: Accelerator
) -> dict[str, object]:
    """Give a prior whose memory is `auto` its plan, the same on all processes.

    A run that is continued by as many processes keeps the plan that it began with, so that it
    rounds as before.

    Args:
        prior: to be settled.
        images: that a process decodes together, at most.
        saved: state to go on from.
        accelerator: names the processes; the main one measures and prints.

    Returns:
        `memory` and `chunk`, facts for the next states; nothing for pixels.
    """
    if not isinstance(prior, AutoencoderPrior | DiffusionPrior):
        return {}
    facts = {} if saved is None else saved.facts
    if prior.plan is None and facts.get("processes") == accelerator.num_processes:
        prior.plan = Plan(facts["memory"], facts["chunk"]) if "memory" in facts else None
    if prior.plan is None:
        measured = None
        if accelerator.is_main_process:
            needs, free = prior.needs(), free_bytes(prior.device)
            measured = choose_plan(needs, images, free)
            print(describe_plan(measured, needs, images, free))
        plan = runtime.broadcast(accelerator, measured)
        assert isinstance(plan, Plan)
        prior.plan = plan
    return {"memory": prior.plan.memory, "chunk": prior.plan.chunk}


# ---- State ----


def _facts(
    coreset: Dataset, prior: Prior, objective: Objective, settings: Matching, context: Context
) -> dict[str, Any]:
    """What a state belongs to, in JSON's types."""
    trims = settings.trim.share > 0
    return {
        "classes": coreset.num_classes,
        "core_set": hash_samples(coreset.hashes, coreset.labels, coreset.class_names),
        "ipc": context.ipc,
        "seed": context.seed,
        "prior": prior.identity,
        "decoding": getattr(prior, "settings", None),
        "objective": getattr(objective, "identity", None),
        "batch": getattr(objective, "batch", BATCH),
        "classes_per_step": settings.classes_per_step,
        "optimizer": settings.optimizer,
        "trim": asdict(settings.trim) if trims else None,
        "precision": context.accelerator.mixed_precision,
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
    batch = getattr(objective, "batch", BATCH)
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
    """The step that a state is at; one of another set, or further on than `steps`, is refused.

    Raises:
        InputError: says what differs.
    """
    saved.require_same({name: fact for name, fact in facts.items() if name not in MAY_CHANGE})
    if saved.step > steps:
        raise InputError(
            f"{saved.place} is {saved.step} steps on, and steps={steps} lie behind it; ask for as "
            "many or more, or give the run another folder."
        )
    return saved.step


def _require_finite(latents: Latents, done: int, accelerator: Accelerator) -> None:
    """Stop before broken latents take the place of a good state.

    Raises:
        RunError: z or c is not finite; all processes raise it together.
    """
    parts = [*latents.z, *(latents.c or ())]
    finite = torch.stack([part.detach().isfinite().all() for part in parts]).all()
    if accelerator.reduce((~finite).float(), "sum") > 0:
        raise diverged(f"latents are no longer finite after {done} steps", ADVICE)
