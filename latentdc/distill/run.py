"""A whole run of a recipe: prune, distil, keep the synthetic set, evaluate, push."""

import shutil
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

import latentdc
from latentdc import config, launch
from latentdc.cli import run_folder
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.distill.dataset import distill_dataset
from latentdc.evaluate import load_protocol, score_table
from latentdc.evaluate.render import to_text
from latentdc.images import Normalization
from latentdc.objectives.build import build_objective
from latentdc.priors.base import Prior
from latentdc.priors.loading import load_prior
from latentdc.prune.coreset import Coreset
from latentdc.prune.pipeline import make_coreset
from latentdc.recipe import Recipe
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.push import push_folder

MAY_CHANGE = (  # when a run is continued: they do not touch the synthetic set
    "evaluate.",
    "push.",
    "trackers",
    "threads",
    "processes",
    "data.cache",
    "distill.checkpoint_every",
    "distill.grid_every",
)


def run(recipe: Recipe, name: str) -> None:
    """Carry out, or continue, the recipe `name`; the main process prints the table at the end.

    Raises:
        InputError: what only the data, the weights or the launcher show to be wrong.
        RunError: the run broke.
    """
    folder = run_folder(recipe.output, name)
    accelerator = launch.start(
        threads=recipe.threads,
        precision=recipe.precision,
        processes=recipe.processes,
        trackers=recipe.trackers,
        folder=folder,
    )
    with accelerator.main_process_first():
        train, test = open_splits(recipe.data)
    normalization = Normalization(recipe.data.mean, recipe.data.std)
    prior = _prior(recipe, accelerator)
    if accelerator.is_main_process:
        config.claim(recipe, folder, may_change=MAY_CHANGE)
    kept = _coreset(recipe, train, test, normalization, folder, accelerator)
    coreset = train.select(kept.indices(train))
    if recipe.trackers:
        accelerator.init_trackers("latentdc", config={"recipe": config.to_yaml(recipe)})
    made = _synthetic(recipe, name, coreset, prior, normalization, folder, accelerator)
    shared = _shared_recipe(recipe)
    if accelerator.is_main_process:
        made.save_pretrained(folder / "synthetic", recipe=shared)
        shutil.copyfile(folder / "synthetic" / "grid.png", folder / "grid.png")
    if recipe.evaluate.rows:
        table = score_table(
            made,
            train,
            test,
            load_protocol(
                recipe.evaluate.protocol,
                students=recipe.evaluate.students,
                seeds=recipe.evaluate.seeds,
                steps=recipe.evaluate.steps,
            ),
            ipc=recipe.ipc,
            normalization=normalization,
            coreset=coreset,
            include=recipe.evaluate.rows,
            seen=recipe.objective.network,
            rows=folder / "rows",
            accelerator=accelerator,
        )
        if accelerator.is_main_process:
            table.save(folder / "results.json")
            made.save_pretrained(folder / "synthetic", recipe=shared, results=table.to_json())
            print(f"\n{to_text(table)}\n")
            print(f"results: {folder / 'results.json'}")
    if accelerator.is_main_process:
        print(f"grid: {folder / 'grid.png'}")
        if recipe.push.repo is not None:
            url = push_folder(folder / "synthetic", recipe.push.repo, private=recipe.push.private)
            print(f"pushed: {url}")
    if recipe.trackers:
        accelerator.end_training()


def _prior(recipe: Recipe, accelerator: Accelerator) -> Prior:
    spec = recipe.prior
    with accelerator.main_process_first():  # which downloads, if need be
        return load_prior(
            spec.kind,
            spec.weights,
            resolution=recipe.data.resolution,
            revision=spec.revision,
            steps=spec.steps,
            guidance=spec.guidance,
            skip=spec.skip,
            clamp=spec.clamp,
            memory=spec.memory,
            chunk=spec.chunk,
            device=accelerator.device,
        )


def _coreset(
    recipe: Recipe,
    train: Dataset,
    test: Dataset,
    normalization: Normalization,
    folder: Path,
    accelerator: Accelerator,
) -> Coreset:
    """The run's core set: kept from before, brought by the user, or scored now."""
    path = folder / "coreset.parquet"
    if launch.agree(accelerator, path.is_file()):
        return Coreset.load(path)
    coreset = make_coreset(
        recipe.prune,
        train,
        test,
        normalization=normalization,
        seed=recipe.seed,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        coreset.save(path)
    return coreset


def _synthetic(
    recipe: Recipe,
    name: str,
    coreset: Dataset,
    prior: Prior,
    normalization: Normalization,
    folder: Path,
    accelerator: Accelerator,
) -> SyntheticSet:
    spec = recipe.distill
    objective = build_objective(
        recipe.objective.kind,
        network=recipe.objective.network,
        distance=recipe.objective.distance,
        augmentation=recipe.objective.augment,
        num_classes=coreset.num_classes,
        resolution=recipe.data.resolution,
        normalization=normalization,
        seed=recipe.seed,
    )
    return distill_dataset(
        coreset,
        prior,
        objective,
        ipc=recipe.ipc,
        steps=spec.steps,
        lr_z=spec.lr_z,
        lr_c=spec.lr_c,
        momentum=spec.momentum,
        batch=recipe.objective.batch,
        from_noise=spec.init == "noise",
        seed=recipe.seed,
        folder=folder,
        checkpoint_every=spec.checkpoint_every,
        grid_every=spec.grid_every,
        provenance=_provenance(recipe, name, prior),
        accelerator=accelerator,
    )


def _provenance(recipe: Recipe, name: str, prior: Prior) -> dict[str, object]:
    return {
        "dataset": _public(recipe.data.source),
        "resolution": recipe.data.resolution,
        "recipe": name,
        "prior": recipe.prior.kind,
        "weights": recipe.prior.weights and _public(recipe.prior.weights),
        "prior_hash": prior.identity,
        "objective": recipe.objective.kind,
        "network": recipe.objective.network,
        "ipc": recipe.ipc,
        "steps": recipe.distill.steps,
        "keep": recipe.prune.keep,
        "order": recipe.prune.order,
        "seed": recipe.seed,
        "latentdc": latentdc.__version__,
    }


def _public(source: str) -> str:
    """A name that may be published: of a local folder, its last part alone."""
    return Path(source).name if Path(source).expanduser().is_dir() else source


def _shared_recipe(recipe: Recipe) -> str:
    """The recipe as the set carries it, without this machine's folders."""
    data = replace(recipe.data, source=_public(recipe.data.source), cache=None)
    weights = recipe.prior.weights and _public(recipe.prior.weights)
    prior = replace(recipe.prior, weights=weights)
    return config.to_yaml(replace(recipe, data=data, prior=prior, output=None))
