"""`python -m latentdc.prune RECIPE`: score, choose and save the core set of a recipe.

Imports no torch before the recipe is checked.
"""

from argparse import Namespace
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import cli, io, locks, ranks, run_folder
from latentdc.errors import InputError
from latentdc.recipe import Prune, Recipe
from latentdc.recipe.prune import check_prune

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.prune.coreset import Coreset


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = "Score the images of a recipe, and save its core set in its run folder."
    cli.recipe_arguments(parser, Recipe)
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="write what each rule finds easy and hard, how rules agree, and labels to check",
    )


def run(options: Namespace) -> None:
    """Score, choose and save."""
    recipe, name = cli.read_recipe(Recipe, options, lambda recipe: _check(recipe, options))
    about = {key: why for key, why in recipe.unread.items() if key.startswith("prune.")}
    cli.tell_unread(options.overrides, about if options.report is None else {})
    if options.dry_run:
        from latentdc.cost import Hardware, describe_pruning

        scored = recipe.prune if options.report is None else _reported(recipe.prune)
        hardware = Hardware.of(options, recipe.processes)
        cli.print_result(describe_pruning(replace(recipe, prune=scored), hardware))
        return
    if options.report is not None:
        io.require_writable(options.report, "--report")
        run_folder.require_apart(recipe.data, options.report, "--report FOLDER")
    folder = cli.run_folder(recipe.output, name)
    run_folder.check_folder(recipe, folder, evaluates=False)
    with locks.locked(folder):
        ranks.say("prune", f"{name} by {recipe.prune.score}, in {folder}")
        from latentdc.modes import precision_put_back

        with precision_put_back():
            _prune(recipe, folder, options)


def _check(recipe: Recipe, options: Namespace) -> None:
    """Refuse what cannot be scored, for the core set or for the report."""
    check_prune(recipe.prune, recipe.data)
    if options.report is not None:
        check_prune(_reported(recipe.prune), recipe.data)
        if find_spec("matplotlib") is None:
            raise InputError('a report needs matplotlib; install it with pip install ".[plots]".')


def _reported(prune: Prune) -> Prune:
    """What is scored to be reported, even if the core set needs no scores."""
    return replace(prune, coreset=None, columns=[*prune.columns, prune.score])


def _prune(recipe: Recipe, folder: Path, options: Namespace) -> None:
    from latentdc import runtime
    from latentdc.data.open import open_splits, plain_preprocessing
    from latentdc.modes import precision_of
    from latentdc.prune.prune import keep_coreset, kept_coreset, prune_dataset
    from latentdc.prune.report import write_report
    from latentdc.prune.score import score_dataset
    from latentdc.report import page

    path = folder / run_folder.CORESET
    accelerator = runtime.start(**recipe.launch, folder=folder)
    train, test = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
    given = {
        "normalization": plain_preprocessing(recipe.data, train),
        "seed": recipe.seed,
        "accelerator": accelerator,
        "folder": folder,
    }
    if runtime.broadcast(path.is_file()):
        read = partial(kept_coreset, path, train, recipe.prune, precision_of(accelerator))
        coreset = runtime.main_first(accelerator, read)
    else:
        coreset = prune_dataset(train, recipe.prune, test, **given)
    if accelerator.is_main_process:
        run_folder.claim_folder(recipe, folder)
        keep_coreset(path, coreset, train)
        print(_summary(coreset, train))
        print(f"core set: {path}")
        print(f"page: {page.written(folder)}")
    if options.report is not None:
        table = score_dataset(train, _reported(recipe.prune), test, **given)
        if accelerator.is_main_process:
            print(f"report: {write_report(options.report, table, train, coreset)}")
    accelerator.end_training()


def _summary(coreset: "Coreset", train: "Dataset") -> str:
    """Kept and all images, per class where there are at most 20."""
    kept = train.labels[coreset.indices(train)].bincount().tolist()
    lines = [f"kept {len(coreset)} of {len(train)} images ({coreset.by})"]
    if train.num_classes > 20:
        return f"{lines[0]}, {min(kept)} to {max(kept)} of each of {train.num_classes} classes"
    rows = zip(train.class_names, kept, train.counts, strict=True)
    return "\n".join(lines + [f"  {name}: {count} of {of}" for name, count, of in rows])


main = cli.entry("prune")

if __name__ == "__main__":
    main()
