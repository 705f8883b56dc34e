"""`python -m latentdc.prune RECIPE`: score, choose and save the core set of a recipe.

Imports no torch before the recipe is checked.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import ownership
from latentdc.cli import exits, read_recipe, recipe_parser, run_folder
from latentdc.io import locked
from latentdc.prune.check import check_prune, looked_at, require_folder, require_plots
from latentdc.recipe import Recipe

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.prune.coreset import Coreset


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = recipe_parser(
        "latentdc prune", "Score the images of a recipe, and save its core set in its run folder."
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="write pictures of what each rule finds easy and hard, and how rules agree",
    )
    parser.add_argument(
        "--check-labels",
        type=Path,
        metavar="FOLDER",
        help="write the images whose labels are most likely wrong: a list and a picture",
    )
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        recipe, name = read_recipe(Recipe, options, lambda recipe: _check(recipe, options))
        if options.report is not None:
            require_plots()
            require_folder(options.report, "--report")
        if options.check_labels is not None:
            require_folder(options.check_labels, "--check-labels")
        folder = run_folder(recipe.output, name)
        ownership.check(recipe, folder)
        with locked(folder):
            _prune(recipe, folder, options)

    exits(work)


def _check(recipe: Recipe, options: Namespace) -> None:
    """Refuse what cannot be scored, for the core set or to be looked at."""
    check_prune(recipe.prune, recipe.data)
    if options.report is not None or options.check_labels is not None:
        seen = looked_at(recipe.prune, labels=options.check_labels is not None)
        check_prune(seen, recipe.data)


def _prune(recipe: Recipe, folder: Path, options: Namespace) -> None:
    from latentdc import launch
    from latentdc.data.open import open_splits, plain_preprocessing
    from latentdc.prune.coreset import Coreset
    from latentdc.prune.labels import check_labels
    from latentdc.prune.prune import prune_dataset, score_dataset
    from latentdc.prune.report import write_report

    path = folder / ownership.CORESET
    accelerator = launch.start(
        threads=recipe.threads,
        precision=recipe.precision,
        processes=recipe.processes,
        folder=folder,
    )
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    given = {
        "normalization": plain_preprocessing(recipe.data, train),
        "seed": recipe.seed,
        "accelerator": accelerator,
        "folder": folder,
    }
    if launch.agree(accelerator, path.is_file()):
        coreset = Coreset.load(path, train)
    else:
        coreset = prune_dataset(train, recipe.prune, test, **given)
    if accelerator.is_main_process:
        ownership.claim(recipe, folder)
        coreset.save(path)
        print(_summary(coreset, train))
        print(f"core set: {path}")
    if options.report is not None or options.check_labels is not None:
        seen = looked_at(recipe.prune, labels=options.check_labels is not None)
        table = score_dataset(train, seen, test, **given)
        if accelerator.is_main_process and options.report is not None:
            print(f"report: {write_report(options.report, table, train, coreset)}")
        if accelerator.is_main_process and options.check_labels is not None:
            print(f"labels to check: {check_labels(options.check_labels, table, train)}")
    accelerator.end_training()


def _summary(coreset: "Coreset", train: "Dataset") -> str:
    """Kept and all images, per class where there are at most 20."""
    from latentdc.data.dataset import class_counts

    kept = train.labels[coreset.indices(train)].bincount().tolist()
    lines = [f"kept {len(coreset)} of {len(train)} images ({coreset.by})"]
    if train.num_classes > 20:
        return f"{lines[0]}, {min(kept)} to {max(kept)} of each of {train.num_classes} classes"
    rows = zip(train.class_names, kept, class_counts(train).tolist(), strict=True)
    return "\n".join(lines + [f"  {name}: {count} of {of}" for name, count, of in rows])


if __name__ == "__main__":
    main()
