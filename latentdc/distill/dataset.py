"""`distill_dataset`: from a core set and a prior to a synthetic set, resumable."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.dataset import Dataset, class_counts
from latentdc.distill import checkpoint
from latentdc.distill.journal import Journal, diverged
from latentdc.distill.latents import Latents, check_fit, initial_latents, own_classes
from latentdc.distill.loop import RealBatches, distill, gather_rows, make_optimizer
from latentdc.images import to_uint8
from latentdc.objectives.base import Objective
from latentdc.priors.base import Prior
from latentdc.report import save_grid
from latentdc.synthetic.synthetic_set import SyntheticSet

SAME = ("classes", "ipc", "seed", "prior")  # facts that a continued run shares with its start


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
        from_noise: start from random latents instead of encoded images.
        seed: of all draws.
        folder: of the run, for checkpoints, metrics and pictures; a run that it holds is continued.
        checkpoint_every: steps between checkpoints.
        grid_every: steps between pictures; 0 draws none.
        provenance: noted in the set.
        accelerator: of this process; None makes one.

    Returns:
        The set, class by class: decoded images, and the z, c and noise behind them.

    Raises:
        InputError: classes, ipc and processes that do not fit together, or a folder whose
            checkpoint is of another set.
        RunError: the loss or the latents are no longer finite.
    """
    accelerator = accelerator or Accelerator()
    device = accelerator.device
    counts = class_counts(coreset).tolist()
    processes = accelerator.num_processes
    check_fit(coreset.class_names, counts, prior, ipc=ipc, processes=processes)
    classes = own_classes(coreset.num_classes, accelerator.process_index, processes)
    latents = initial_latents(
        coreset, prior, classes, ipc=ipc, seed=seed, from_noise=from_noise, device=device
    )
    facts = {
        "classes": coreset.num_classes,
        "ipc": ipc,
        "seed": seed,
        "prior": prior.identity,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    optimizer = make_optimizer(latents, lr_z=lr_z, lr_c=lr_c, momentum=momentum)
    saved = None if folder is None else checkpoint.latest(folder / "checkpoints")
    start = 0
    if saved is not None:
        start = checkpoint.require(saved, {name: facts[name] for name in SAME})
        checkpoint.restore(saved, classes, latents, optimizer)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    needed = classes if objective.scope == "class" else range(coreset.num_classes)
    real = RealBatches(coreset, needed, batch=batch, seed=seed, device=device)
    journal = Journal(
        folder and folder / "metrics.jsonl",
        start=start,
        steps=steps,
        num_classes=coreset.num_classes,
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
        ):
            journal.record(step.loss)
            done = step.index + 1
            if done == steps or (folder is not None and done % checkpoint_every == 0):
                journal.flush()
                _require_finite(latents, done, accelerator)
                if folder is not None:
                    parts = folder / "checkpoints"
                    checkpoint.save(parts, done, latents, optimizer, accelerator, facts)
            if folder is not None and grid_every and done % grid_every == 0:
                picture = folder / "grids" / f"step-{done:08d}.png"
                _picture(picture, latents, prior, coreset, accelerator)
    return _finished(latents, prior, coreset.class_names, provenance or {}, accelerator)


def _require_finite(latents: Latents, done: int, accelerator: Accelerator) -> None:
    """Stop before broken latents take the place of a good checkpoint.

    Raises:
        RunError: z or c is not finite; all processes raise it together.
    """
    parts = [part for part in (latents.z, latents.c) if part is not None]
    finite = torch.stack([part.detach().isfinite().all() for part in parts]).all()
    if accelerator.reduce((~finite).float(), "sum") > 0:
        raise diverged(f"latents are no longer finite after {done} steps")


@torch.no_grad()
def _decoded(latents: Latents, prior: Prior, accelerator: Accelerator) -> Tensor:
    """(N, 3, H, W) images of all processes: uint8, or float32 where these do not hold them."""
    with accelerator.autocast():
        images = latents.decode(prior).float()
    images = gather_rows(images, accelerator)[0].cpu()
    return images if bool((images.abs() > 1 + 1e-3).any()) else to_uint8(images)


def _finished(
    latents: Latents,
    prior: Prior,
    class_names: tuple[str, ...],
    provenance: Mapping[str, object],
    accelerator: Accelerator,
) -> SyntheticSet:
    def everyone(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else gather_rows(rows, accelerator)[0].cpu()

    labels = gather_rows(latents.labels.to(accelerator.device), accelerator)[0].cpu()
    return SyntheticSet(
        images=_decoded(latents, prior, accelerator),
        labels=labels,
        class_names=class_names,
        z=everyone(latents.z),
        c=everyone(latents.c),
        noise=everyone(latents.noise),
        provenance=dict(provenance),
    )


def _picture(
    path: Path, latents: Latents, prior: Prior, coreset: Dataset, accelerator: Accelerator
) -> None:
    images = _decoded(latents, prior, accelerator)
    labels = gather_rows(latents.labels.to(accelerator.device), accelerator)[0].cpu()
    if accelerator.is_main_process:
        path.parent.mkdir(exist_ok=True)
        save_grid(path, images, labels, coreset.class_names)
