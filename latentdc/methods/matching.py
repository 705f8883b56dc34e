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
from latentdc.arguments import require_a, require_able
from latentdc.data.dataset import Dataset, different_counts, hash_samples
from latentdc.errors import InputError
from latentdc.methods.context import ByClass, Context, State
from latentdc.methods.decode import gather_rows, show_latents, synthetic_set
from latentdc.methods.latents import (
    Latents,
    check_classes_per_step,
    check_fit,
    initial_latents,
    known_images,
    most_together,
    own_classes,
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
from latentdc.priors.pixel import VectorPrior
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Matching
from latentdc.runtime import with_gradients
from latentdc.synthetic.synthetic_set import SyntheticSet

BATCH = 256  # real images per class and step of an objective that does not say
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
) -> SyntheticSet:
    """Optimise `context.ipc` images per class so that they replace `coreset`.

    Args:
        coreset: real images to start from and to match; all of a data set or a pruned part.
        prior: the space to optimise in.
        objective: what to match, and on how many real images per class and step.
        settings: of the optimisation; None takes the defaults.
        context: ipc, seed, and what the caller does for the run; None keeps no state.

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
    _check_parts(coreset, prior, objective, settings, context)
    batch = getattr(objective, "batch", BATCH)
    ipc, seed, steps = context.ipc, context.seed, settings.steps
    accelerator = context.accelerator or Accelerator()
    check_precision(accelerator)
    device, processes = accelerator.device, accelerator.num_processes
    counts, noise = different_counts(coreset).tolist(), settings.init == "noise"
    check_fit(coreset.class_names, counts, prior, ipc=ipc, processes=processes, noise=noise)
    num_classes, per_step = coreset.num_classes, settings.classes_per_step
    check_classes_per_step(
        per_step, num_classes=num_classes, processes=processes, scope=objective.scope
    )
    trimmed = separable(settings.trim, objective)
    classes = own_classes(num_classes, accelerator.process_index, processes)
    facts: dict[str, Any] = {
        "classes": num_classes,
        "core_set": hash_samples(coreset.hashes, coreset.labels, coreset.class_names),
        "ipc": ipc,
        "seed": seed,
        "prior": prior.identity,
        "decoding": getattr(prior, "settings", None),
        "objective": getattr(objective, "identity", None),
        "batch": batch,
        "classes_per_step": per_step,
        "trim": None if trimmed is None else asdict(settings.trim),
        "precision": accelerator.mixed_precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    saved = None if context.load_state is None else context.load_state()
    together = most_together(num_classes, per_step, processes)
    facts |= settle_memory(prior, together * ipc, saved, accelerator)
    start = 0
    velocity: dict[tuple[str, int], Tensor] = {}
    if saved is None:
        latents = initial_latents(
            coreset, prior, classes, ipc=ipc, seed=seed, from_noise=noise, device=device
        )
    else:
        _require_same(saved, facts, steps)
        start = saved.step
        latents, velocity = restored_latents(saved, classes, device)
        objective.restore(saved.shared)
    optimizer = make_optimizer(latents, settings)
    for (name, label), momentum in velocity.items():
        leaf = (latents.z if name == "z" else latents.c or ())[classes.index(label)]
        optimizer.state[leaf]["momentum_buffer"] = momentum
    learns = LEARNED_LR in objective.state()
    check_moves(prior, settings, learns=learns, steps=steps - start, device=device)
    needed = classes if objective.scope == "class" else range(num_classes)
    real = RealBatches(coreset, needed, batch=batch, seed=seed, device=device)
    trimming = None if trimmed is None else Trimming(settings.trim, trimmed, real)
    if trimming is not None and saved is not None:
        trimming.restore(known_images(saved, needed))

    def moved(step: int) -> tuple[int, ...]:
        return step_classes(num_classes, per_step, step, seed)

    def state(done: int) -> State:
        known = {} if trimming is None else trimming.state(classes)

        def tensors(some: Collection[int]) -> ByClass:
            return tensors_by_class(latents.pick(some), optimizer, known)

        return State(done, facts, classes, tensors, objective.state())

    log = StepLog(
        start=start,
        steps=steps,
        shared=objective.scope == "set",
        accelerator=accelerator,
        on_step=context.on_step,
    )
    with closing(log):
        for step in match_steps(
            latents,
            prior,
            objective,
            real,
            optimizer,
            start=start,
            steps=steps,
            accelerator=accelerator,
            classes=moved if per_step else None,
            trimming=trimming,
        ):
            parts = len(moved(step.index)) if objective.sums_classes else 1
            lr = objective.state().get(LEARNED_LR)
            log.record(step.loss, classes=parts, lr=lr, trimmed=step.trimmed)
            done = step.index + 1
            keep = context.save_state is not None and done % settings.checkpoint_every == 0
            if done == steps or keep:
                log.flush()
                _require_finite(latents, done, accelerator)
                if context.save_state is not None:
                    context.save_state(state(done))
            if settings.grid_every and done % settings.grid_every == 0:
                show_latents(done, latents, prior, coreset.class_names, accelerator, context)
    made = synthetic_set(latents, prior, coreset.class_names, accelerator, context)
    lr = objective.state().get(LEARNED_LR)
    return made if lr is None else replace(made, learned_lr=float(lr))


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


def match_steps(
    latents: Latents,
    prior: Prior,
    objective: Objective,
    real: RealBatches,
    optimizer: torch.optim.Optimizer,
    *,
    start: int,
    steps: int,
    accelerator: Accelerator,
    classes: Callable[[int], Collection[int]] | None = None,
    trimming: Trimming | None = None,
) -> Iterator[Step]:
    """Update `latents` in place; logging and saving are the caller's.

    Args:
        latents: of the classes that this process owns.
        prior: decodes them.
        objective: compares them with real images.
        real: of the classes that the objective will ask for.
        optimizer: over the latents.
        start: index of the first step.
        steps: index after the last one.
        accelerator: gives device, precision and the other processes.
        classes: which a step moves, whoever owns them; None moves all in every step.
        trimming: of the batches of `real`; None leaves them whole.
    """
    for index in range(start, steps):
        moved = latents if classes is None else latents.pick(classes(index))
        if not moved.classes:
            nothing = torch.zeros((), device=accelerator.device)
            yield Step(index, nothing, None if trimming is None else nothing)
            continue
        if objective.scope == "class":
            real.expect(index, moved.classes)
        optimizer.zero_grad(set_to_none=True)
        with accelerator.autocast():
            decoded = moved.decode(prior)
        gradient, loss = image_gradient(
            objective, index, decoded, moved.labels, real, accelerator, trimming
        )
        if decoded.requires_grad:
            decoded.backward(gradient.to(decoded.dtype))
        optimizer.step()
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


def make_optimizer(latents: Latents, settings: Matching) -> torch.optim.SGD:
    """SGD over z and c with learning rates of their own; a rate of 0 leaves its tensors alone.

    A class that a step does not decode gets no gradient, so that neither it nor its momentum moves:
    each class is optimised as if the steps that meet it were all there are.
    """
    groups = []
    for parts, lr in ((latents.z, settings.lr_z), (latents.c, settings.lr_c)):
        if parts is not None:
            groups.append({"params": [part.requires_grad_(lr > 0) for part in parts], "lr": lr})
    return torch.optim.SGD(groups, lr=settings.lr_z, momentum=settings.momentum)


def check_moves(
    prior: Prior, settings: Matching, *, learns: bool, steps: int, device: torch.device | str
) -> None:
    """Refuse steps that would leave everything as it is.

    Args:
        prior: whose conditions, where it has any, move beside z.
        settings: learning rates of the latents and of the class conditions.
        learns: whether the objective learns something itself, such as a learning rate.
        steps: that are left.
        device: of the prior.

    Raises:
        InputError: nothing has a rate to move at.
    """
    if steps == 0 or settings.lr_z > 0 or learns:
        return
    conditional = prior.condition(torch.zeros(1, dtype=torch.int64, device=device)) is not None
    if conditional and settings.lr_c > 0:
        return
    why = "" if conditional else "; this prior has no conditions that distill.lr_c could move"
    raise InputError(
        f"distill.lr_z=0 and distill.lr_c={settings.lr_c:g}: nothing would move in {steps} steps"
        f"{why}. Give distill.lr_z a rate, or take distill.steps=0 for the images as they start."
    )


def check_precision(accelerator: Accelerator) -> None:
    """Refuse to distil in a precision whose gradients would need scaling.

    Raises:
        InputError: neither float32 nor bf16.
    """
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise InputError(
            f"Accelerate runs in {accelerator.mixed_precision}, in which the small gradients that "
            "pass through a prior vanish; launch with --mixed_precision bf16 or no."
        )


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


def _check_parts(
    coreset: Dataset, prior: Prior, objective: Objective, settings: Matching, context: Context
) -> None:
    """Refuse things of another kind, and those that were made for other samples or classes.

    Raises:
        InputError: says which.
    """
    require_a(Dataset, coreset, "coreset", "such as the first of open_splits(Data())")
    require_able(
        "encode decode condition resolution identity", prior, "prior", "what load_prior makes"
    )
    require_able("accumulate scope", objective, "objective", "what build_objective makes")
    require_a(Matching, settings, "settings", "such as Matching(steps=1000)")
    require_a(Context, context, "context", "such as Context(ipc=10)")
    kind = "vectors" if isinstance(prior, VectorPrior) else "images"
    if kind != coreset.kind:
        raise InputError(
            f"the prior decodes {kind}, and the core set holds {coreset.kind}; take a prior of "
            f"{coreset.kind}."
        )
    size = "values" if kind == "vectors" else "px"
    if prior.resolution != coreset.resolution:
        raise InputError(
            f"the prior decodes {kind} of {prior.resolution} {size}, and those of the core set "
            f"have {coreset.resolution}; load it with resolution={coreset.resolution}."
        )
    for name, here in (
        ("num_classes", coreset.num_classes),
        ("resolution", coreset.resolution),
    ):
        built = getattr(objective, name, here)
        if built != here:
            raise InputError(
                f"the objective was built with {name}={built}, and the core set has {here}; "
                f"build_objective(..., {name}={here})."
            )


def _require_same(saved: State, facts: dict[str, Any], steps: int) -> None:
    """Refuse a state of another set, or one that is further on.

    Raises:
        InputError: says what differs.
    """
    saved.require_same({name: fact for name, fact in facts.items() if name not in MAY_CHANGE})
    if saved.step > steps:
        raise InputError(
            f"{saved.place} is {saved.step} steps on, and steps={steps} lie behind it; ask for as "
            "many or more, or give the run another folder."
        )


def _require_finite(latents: Latents, done: int, accelerator: Accelerator) -> None:
    """Stop before broken latents take the place of a good state.

    Raises:
        RunError: z or c is not finite; all processes raise it together.
    """
    parts = [*latents.z, *(latents.c or ())]
    finite = torch.stack([part.detach().isfinite().all() for part in parts]).all()
    if accelerator.reduce((~finite).float(), "sum") > 0:
        raise diverged(f"latents are no longer finite after {done} steps")
