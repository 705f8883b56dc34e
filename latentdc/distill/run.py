"""A whole run of a recipe: prune, distil, keep the synthetic set, evaluate, push."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from latentdc import config, launch, ownership
from latentdc.data.dataset import Dataset, class_counts
from latentdc.data.open import open_splits
from latentdc.data.preprocessing import plain, preprocessing
from latentdc.distill.classes import check_classes_per_step
from latentdc.distill.dataset import distill_dataset
from latentdc.distill.latents import check_fit
from latentdc.distill.parts import build_prior, recipe_objective
from latentdc.distill.provenance import provenance, shared_recipe
from latentdc.errors import InputError
from latentdc.evaluate import load_protocol, score_table
from latentdc.evaluate.render import to_text
from latentdc.evaluate.table import Table
from latentdc.experts.files import ExpertFiles, open_experts
from latentdc.objectives.base import Objective
from latentdc.priors.base import Prior
from latentdc.priors.precision import Precision
from latentdc.prune.budgets import most_kept
from latentdc.prune.coreset import Coreset
from latentdc.prune.pipeline import fitting, make_coreset
from latentdc.recipe import Recipe
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.push import push_folder, require_login
from latentdc.whitening import Whitening


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
    accelerator = launch.start(
        threads=recipe.threads,
        precision=recipe.precision,
        processes=recipe.processes,
        trackers=recipe.trackers,
        folder=folder,
    )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise InputError(
            f"Accelerate runs in {accelerator.mixed_precision}, in which the small gradients that "
            "pass through a prior vanish; launch with --mixed_precision bf16 or no."
        )
    experts = open_experts(recipe) if recipe.objective.kind == "mtt" else None
    if recipe.push.repo is not None:
        launch.main_first(accelerator, require_login)
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    normalization = launch.main_first(accelerator, lambda: preprocessing(recipe.data, train))
    precision: Precision = "bf16" if accelerator.mixed_precision == "bf16" else "no"
    prior = launch.main_first(
        accelerator,
        lambda: build_prior(
            recipe,
            accelerator.device,
            class_names=train.class_names,
            normalization=normalization,
            precision=precision,
        ),
    )
    objective = recipe_objective(recipe, train, normalization)
    check_classes_per_step(
        recipe.distill.classes_per_step,
        num_classes=train.num_classes,
        processes=accelerator.num_processes,
        scope=objective.scope,
    )
    kept = _coreset(recipe, train, test, prior, folder, experts, accelerator, scores)
    coreset = train.select(kept.indices(train))
    if experts is not None:
        experts.require_data(coreset, normalization)
    if accelerator.is_main_process:
        ownership.claim(recipe, folder)
        kept.save(folder / ownership.CORESET)
    if recipe.trackers:
        accelerator.init_trackers("latentdc", config={"recipe": config.to_yaml(recipe)})
    made = _synthetic(recipe, name, coreset, prior, objective, folder, accelerator)
    if isinstance(normalization, Whitening):
        made = replace(made, whitening=normalization)
    shared = shared_recipe(recipe)
    if accelerator.is_main_process:
        made.save_pretrained(folder / "synthetic", recipe=shared)
        if train.kind == "images":
            _copy(folder / "synthetic" / "grid.png", folder / "grid.png")
    table = None
    if recipe.evaluate.rows:
        protocol = load_protocol(
            recipe.evaluate.protocol,
            students=recipe.evaluate.students,
            seeds=recipe.evaluate.seeds,
            steps=recipe.evaluate.steps,
        )
        if recipe.evaluate.learned_lr:
            protocol = protocol.with_learned_lr(made.learned_lr)
        table = score_table(
            made,
            train,
            test,
            protocol,
            ipc=recipe.ipc,
            normalization=normalization,
            coreset=coreset,
            include=recipe.evaluate.rows,
            seen=recipe.objective.network,
            rows=rows or folder / "rows",
            accelerator=accelerator,
        )
        if accelerator.is_main_process:
            table.save(folder / "results.json")
            made.save_pretrained(folder / "synthetic", recipe=shared, results=table.to_json())
            print(f"\n{to_text(table)}\n")
            print(f"results: {folder / 'results.json'}")
    if accelerator.is_main_process:
        if train.kind == "images":
            print(f"grid: {folder / 'grid.png'}")
        if recipe.push.repo is not None:
            url = push_folder(folder / "synthetic", recipe.push.repo, private=recipe.push.private)
            print(f"pushed: {url}")
    if recipe.trackers:
        accelerator.end_training()
    return table


def _coreset(
    recipe: Recipe,
    train: Dataset,
    test: Dataset,
    prior: Prior,
    folder: Path,
    experts: ExpertFiles | None,
    accelerator: Accelerator,
    scores: Path | None,
) -> Coreset:
    """The run's core set: kept from before, brought by the user, the experts', or scored now."""
    path: Path | None = folder / ownership.CORESET
    if not launch.agree(accelerator, (folder / ownership.CORESET).is_file()):
        path = experts.coreset if experts is not None else None
        path = path if recipe.prune.coreset is None else Path(recipe.prune.coreset)
    if path is not None:
        kept = fitting(path, train)
        names, counts = kept.class_names, kept.labels.bincount().tolist()
    else:
        kept, names = None, train.class_names
        prune, sizes = recipe.prune, class_counts(train).tolist()
        counts = most_kept(sizes, keep=prune.keep, count=prune.count, scope=prune.scope)
    check_fit(names, counts, prior, ipc=recipe.ipc, processes=accelerator.num_processes)
    return kept or make_coreset(
        recipe.prune,
        train,
        test,
        normalization=plain(recipe.data, train),
        seed=recipe.seed,
        accelerator=accelerator,
        folder=scores or folder,
    )


def _synthetic(
    recipe: Recipe,
    name: str,
    coreset: Dataset,
    prior: Prior,
    objective: Objective,
    folder: Path,
    accelerator: Accelerator,
) -> SyntheticSet:
    spec = recipe.distill
    return distill_dataset(
        coreset,
        prior,
        objective,
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
        provenance=provenance(recipe, name, prior),
        accelerator=accelerator,
    )


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    os.replace(part, target)
