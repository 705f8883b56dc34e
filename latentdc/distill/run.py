"""A whole run of a recipe: prune, distil, keep the synthetic set, evaluate, push."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from latentdc import launch, ownership
from latentdc.data.dataset import Dataset, class_counts, different_counts, random_images
from latentdc.data.open import plain_preprocessing
from latentdc.distill import checkpoint
from latentdc.distill.dataset import distill_dataset
from latentdc.distill.latents import check_fit
from latentdc.distill.loop import check_moves, check_precision
from latentdc.distill.parts import Parts, open_parts
from latentdc.distill.provenance import provenance, shared_recipe
from latentdc.distill.publish import keep, publish
from latentdc.evaluate import load_protocol, score_table
from latentdc.evaluate.open_teaching import require_given_teachers
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.table import Table
from latentdc.images import Whitening
from latentdc.objectives.base import LEARNED_LR
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import prune_dataset
from latentdc.prune.select import most_kept
from latentdc.recipe import Recipe
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.push import require_login


def run(
    recipe: Recipe,
    name: str,
    folder: Path,
    *,
    rows: Path | None = None,
    scores: Path | None = None,
) -> Table | None:
    """Carry out, or continue, the recipe `name`; the main process prints the table at the end.

    What can be refused is refused before anything is scored, trained or written.

    Args:
        recipe: what to do.
        name: of the recipe.
        folder: of the run.
        rows: folder of finished trainings; None takes the run's own.
        scores: folder of the scores that the core set is chosen by; likewise.

    Returns:
        The table, or None where the recipe evaluates nothing.

    Raises:
        InputError: what only the data, the weights or the launcher show to be wrong.
        RunError: the run broke.
    """
    accelerator = _start(recipe, folder)
    parts = open_parts(recipe, accelerator)
    if recipe.evaluate.rows:
        require_given_teachers(
            _protocol(recipe),
            parts.test,
            normalization=parts.normalization,
            accelerator=accelerator,
        )
    if not checkpoint.whole(folder / "checkpoints"):
        check_moves(
            parts.prior,
            lr_z=recipe.distill.lr_z,
            lr_c=recipe.distill.lr_c,
            learns=LEARNED_LR in parts.objective.state(),
            steps=recipe.distill.steps,
            device=accelerator.device,
        )
    kept = _coreset(recipe, parts, folder, scores, accelerator)
    coreset = parts.train.select(kept.indices(parts.train))
    if parts.experts is not None:
        parts.experts.require_data(coreset, parts.normalization)
    if accelerator.is_main_process:
        ownership.claim(recipe, folder)
        kept.save(folder / ownership.CORESET)
    if recipe.trackers:
        accelerator.init_trackers("latentdc", config={"recipe": shared_recipe(recipe)})
    facts = provenance(recipe, name, parts.prior, kept, accelerator.mixed_precision)
    made = _synthetic(recipe, facts, coreset, parts, folder, accelerator)
    if accelerator.is_main_process:
        keep(made, recipe, folder)
    table = None
    if recipe.evaluate.rows:
        table = _table(recipe, made, coreset, parts, rows or folder / "rows", accelerator)
    if accelerator.is_main_process:
        publish(made, table, recipe, folder)
    for tracker in accelerator.trackers:  # end_training() would end the processes' group too
        tracker.finish()
    return table


def _start(recipe: Recipe, folder: Path) -> Accelerator:
    accelerator = launch.start(
        threads=recipe.threads,
        precision=recipe.precision,
        processes=recipe.processes,
        trackers=recipe.trackers,
        folder=folder,
    )
    check_precision(accelerator)
    if recipe.push.repo is not None:
        launch.main_first(accelerator, require_login)
    return accelerator


def _coreset(
    recipe: Recipe, parts: Parts, folder: Path, scores: Path | None, accelerator: Accelerator
) -> Coreset:
    """The run's core set: kept from before, brought by the user, the experts', or scored now."""
    train, experts, prune = parts.train, parts.experts, recipe.prune
    path: Path | None = folder / ownership.CORESET
    if not launch.agree(accelerator, (folder / ownership.CORESET).is_file()):
        path = experts.coreset if experts is not None else None
        path = path if prune.coreset is None else Path(prune.coreset)
    if path is not None:
        kept = Coreset.load(path, train)
        names, counts = kept.class_names, kept.different_counts()
    else:
        kept, names, sizes = None, train.class_names, different_counts(train).tolist()
        counts = most_kept(sizes, prune, class_counts(train).tolist())
    noise = recipe.distill.init == "noise" and "coreset" not in recipe.evaluate.rows
    check_fit(
        names,
        counts,
        parts.prior,
        ipc=recipe.ipc,
        processes=accelerator.num_processes,
        noise=noise,
    )
    if noise and "random" in recipe.evaluate.rows:
        random_images(train, recipe.ipc, recipe.seed)
    return kept or prune_dataset(
        train,
        prune,
        parts.test,
        normalization=plain_preprocessing(recipe.data, train),
        seed=recipe.seed,
        accelerator=accelerator,
        folder=scores or folder,
    )


def _synthetic(
    recipe: Recipe,
    facts: Mapping[str, object],
    coreset: Dataset,
    parts: Parts,
    folder: Path,
    accelerator: Accelerator,
) -> SyntheticSet:
    spec, seen = recipe.distill, parts.normalization
    made = distill_dataset(
        coreset,
        parts.prior,
        parts.objective,
        ipc=recipe.ipc,
        steps=spec.steps,
        lr_z=spec.lr_z,
        lr_c=spec.lr_c,
        momentum=spec.momentum,
        classes_per_step=spec.classes_per_step,
        trim=spec.trim,
        batch=recipe.objective.batch,
        from_noise=spec.init == "noise",
        seed=recipe.seed,
        folder=folder,
        checkpoint_every=spec.checkpoint_every,
        grid_every=spec.grid_every,
        provenance=facts,
        accelerator=accelerator,
    )
    return replace(made, whitening=seen) if isinstance(seen, Whitening) else made


def _protocol(recipe: Recipe) -> EvalProtocol:
    wanted = recipe.evaluate
    return load_protocol(
        wanted.protocol, students=wanted.students, seeds=wanted.seeds, steps=wanted.steps
    )


def _table(
    recipe: Recipe,
    made: SyntheticSet,
    coreset: Dataset,
    parts: Parts,
    rows: Path,
    accelerator: Accelerator,
) -> Table:
    """Train the students of all rows that are not there yet."""
    wanted, protocol = recipe.evaluate, _protocol(recipe)
    if wanted.learned_lr:
        protocol = protocol.with_learned_lr(made.learned_lr)
    return score_table(
        made,
        parts.train,
        parts.test,
        protocol,
        ipc=recipe.ipc,
        normalization=parts.normalization,
        coreset=coreset,
        include=wanted.rows,
        seen=recipe.objective.network,
        rows=rows,
        accelerator=accelerator,
    )
