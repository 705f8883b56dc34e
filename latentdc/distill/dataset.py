"""`distill_dataset`: from a core set and a prior to a synthetic set, resumable."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from latentdc.arguments import folder_of
from latentdc.autograd import with_gradients
from latentdc.data.dataset import Dataset, different_counts, hash_samples
from latentdc.distill import checkpoint
from latentdc.distill.classes import (
    check_classes_per_step,
    most_together,
    own_classes,
    step_classes,
)
from latentdc.distill.finish import finished
from latentdc.distill.fits import check_parts
from latentdc.distill.journal import Journal, diverged
from latentdc.distill.latents import Latents, check_fit, initial_latents
from latentdc.distill.loop import check_moves, check_precision, distill, make_optimizer
from latentdc.distill.memory import settle_memory
from latentdc.distill.picture import picture
from latentdc.distill.real import RealBatches
from latentdc.distill.trimming import Trimming, separable
from latentdc.errors import InputError
from latentdc.objectives.base import LEARNED_LR, Objective
from latentdc.priors.base import Prior
from latentdc.recipe import Distill, ObjectiveSettings, Recipe, Trim
from latentdc.synthetic.synthetic_set import SyntheticSet

# Facts that a continued run shares with its start.
SAME = (
    "classes",
    "core_set",
    "ipc",
    "seed",
    "prior",
    "decoding",
    "classes_per_step",
    "trim",
    "precision",
)


@with_gradients
def distill_dataset(
    coreset: Dataset,
    prior: Prior,
    objective: Objective,
    *,
    ipc: int = 1,
    steps: int = 1000,
    lr_z: float = 1.0,
    lr_c: float = 1.0,
    momentum: float = 0.5,
    batch: int = 256,
    classes_per_step: int | None = None,
    trim: Trim | None = None,
    from_noise: bool = False,
    seed: int = 0,
    folder: Path | None = None,
    checkpoint_every: int = 100,
    grid_every: int = 0,
    provenance: Mapping[str, object] | None = None,
    accelerator: Accelerator | None = None,
) -> SyntheticSet:
    """Optimise `ipc` images per class so that they replace `coreset`.

    Args:
        coreset: real images to start from and to match; all of a data set or a pruned part.
        prior: the space to optimise in.
        objective: what to match.
        ipc: synthetic images per class.
        steps: updates.
        lr_z: learning rate of the latents.
        lr_c: of the class conditions.
        momentum: of SGD.
        batch: real images per class and step.
        classes_per_step: at most so many classes are moved in a step, which `step_classes` draws;
            None moves all.
        trim: what real batches leave out by its effect on the synthetic images; None is nothing.
        from_noise: start from random latents instead of encoded images.
        seed: of all draws.
        folder: of the run, for checkpoints, metrics and pictures; a run that it holds is continued,
            and the images of the set that it ended with are taken as they are.
        checkpoint_every: steps between checkpoints.
        grid_every: steps between pictures; 0 draws none.
        provenance: noted in the set.
        accelerator: of this process; None makes one.

    Returns:
        The set, class by class: decoded images, and on the main process the z, c and noise
        behind them.

    Raises:
        InputError: classes, ipc, processes and objective that do not fit together, rates that move
            nothing, fp16, or a folder whose checkpoints are damaged, of another set, or further on
            than `steps`.
        RunError: the loss or the latents are no longer finite.
    """
    check_parts(coreset, prior, objective, provenance, accelerator)
    spec = Distill(
        steps=steps,
        lr_z=lr_z,
        lr_c=lr_c,
        momentum=momentum,
        classes_per_step=classes_per_step,
        trim=trim or Trim(),
        checkpoint_every=checkpoint_every,
        grid_every=grid_every,
    )
    lr_z, lr_c, momentum, steps = spec.lr_z, spec.lr_c, spec.momentum, spec.steps
    classes_per_step, trim = spec.classes_per_step, None if trim is None else spec.trim
    checkpoint_every, grid_every = spec.checkpoint_every, spec.grid_every
    recipe = Recipe(ipc=ipc, seed=seed, objective=ObjectiveSettings(batch=batch))
    ipc, seed, batch = recipe.ipc, recipe.seed, recipe.objective.batch
    folder = folder_of(folder, "folder")
    accelerator = accelerator or Accelerator()
    check_precision(accelerator)
    device = accelerator.device
    counts = different_counts(coreset).tolist()
    processes = accelerator.num_processes
    check_fit(coreset.class_names, counts, prior, ipc=ipc, processes=processes, noise=from_noise)
    check_classes_per_step(
        classes_per_step,
        num_classes=coreset.num_classes,
        processes=processes,
        scope=objective.scope,
    )
    trimmed = separable(trim, objective)
    classes = own_classes(coreset.num_classes, accelerator.process_index, processes)
    facts = {
        "classes": coreset.num_classes,
        "core_set": hash_samples(coreset.hashes, coreset.labels, coreset.class_names),
        "ipc": ipc,
        "seed": seed,
        "prior": prior.identity,
        "decoding": getattr(prior, "settings", None),
        "classes_per_step": classes_per_step,
        "trim": None if trim is None or trimmed is None else asdict(trim),
        "precision": accelerator.mixed_precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    saved = None
    if folder is not None:
        saved = checkpoint.newest_sound(folder / "checkpoints", accelerator)
    together = most_together(coreset.num_classes, classes_per_step, processes)
    facts |= settle_memory(prior, together * ipc, saved, accelerator)
    start = 0
    velocity: checkpoint.Momentum = {}
    if saved is not None:
        start = checkpoint.require(saved, {name: facts[name] for name in SAME})
        if start > steps:
            raise InputError(
                f"{saved} is {start} steps on, and steps={steps} lie behind it; ask for as many or "
                "more, or give the run another folder."
            )
        latents, velocity = checkpoint.restore(saved, classes, device)
        objective.restore(checkpoint.learned(saved))
    else:
        latents = initial_latents(
            coreset, prior, classes, ipc=ipc, seed=seed, from_noise=from_noise, device=device
        )
    optimizer = make_optimizer(latents, lr_z=lr_z, lr_c=lr_c, momentum=momentum)
    checkpoint.restore_momentum(optimizer, latents, velocity)
    check_moves(
        prior,
        lr_z=lr_z,
        lr_c=lr_c,
        learns=LEARNED_LR in objective.state(),
        steps=steps - start,
        device=device,
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    needed = classes if objective.scope == "class" else range(coreset.num_classes)
    real = RealBatches(coreset, needed, batch=batch, seed=seed, device=device)

    trimming = None
    if trim is not None and trimmed is not None:
        trimming = Trimming(trim, trimmed, real)
        if saved is not None:
            trimming.restore(checkpoint.known(saved, needed))

    def moved(step: int) -> tuple[int, ...]:
        return step_classes(coreset.num_classes, classes_per_step, step, seed)

    journal = Journal(
        folder and folder / "metrics.jsonl",
        start=start,
        steps=steps,
        shared=objective.scope == "set",
        accelerator=accelerator,
    )
    with closing(journal):
        for step in distill(
            latents,
            prior,
            objective,
            real,
            optimizer,
            start=start,
            steps=steps,
            accelerator=accelerator,
            classes=moved if classes_per_step else None,
            trimming=trimming,
        ):
            parts = len(moved(step.index)) if objective.sums_classes else 1
            lr = objective.state().get(LEARNED_LR)
            journal.record(step.loss, classes=parts, lr=lr, trimmed=step.trimmed)
            done = step.index + 1
            if done == steps or (folder is not None and done % checkpoint_every == 0):
                journal.flush()
                _require_finite(latents, done, accelerator)
                if folder is not None:
                    checkpoint.save(
                        folder / "checkpoints",
                        done,
                        latents,
                        optimizer,
                        accelerator,
                        facts,
                        objective.state(),
                        None if trimming is None else trimming.state(classes),
                    )
            if folder is not None and grid_every and done % grid_every == 0:
                path = folder / "grids" / f"step-{done:08d}.png"
                picture(path, latents, prior, coreset.class_names, accelerator)
    made = finished(
        latents,
        prior,
        coreset.class_names,
        provenance or {},
        accelerator,
        folder,
        over=saved is not None and start == steps,
    )
    lr = objective.state().get(LEARNED_LR)
    return made if lr is None else replace(made, learned_lr=float(lr))


def _require_finite(latents: Latents, done: int, accelerator: Accelerator) -> None:
    """Stop before broken latents take the place of a good checkpoint.

    Raises:
        RunError: z or c is not finite; all processes raise it together.
    """
    parts = [*latents.z, *(latents.c or ())]
    finite = torch.stack([part.detach().isfinite().all() for part in parts]).all()
    if accelerator.reduce((~finite).float(), "sum") > 0:
        raise diverged(f"latents are no longer finite after {done} steps")
