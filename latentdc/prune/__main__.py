"""`python -m latentdc.prune RECIPE`: choose and save the core set of a recipe.

Imports no torch before the recipe is checked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import ownership
from latentdc.cli import exits, read_recipe, recipe_parser, run_folder
from latentdc.prune.check import check_prune
from latentdc.recipe import Recipe

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.prune.coreset import Coreset


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = recipe_parser(
        "latentdc prune", "Choose the core set of a recipe and save it in its run folder."
    )
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        recipe, name = read_recipe(
            Recipe, options, lambda recipe: check_prune(recipe.prune, recipe.data)
        )
        folder = run_folder(recipe.output, name)
        ownership.check(recipe, folder)
        _prune(recipe, folder)

    exits(work)


def _prune(recipe: Recipe, folder: Path) -> None:
    from latentdc import launch
    from latentdc.data.open import open_splits
    from latentdc.images import Normalization
    from latentdc.prune.pipeline import fitting, make_coreset

    path = folder / ownership.CORESET
    accelerator = launch.start(
        threads=recipe.threads, precision=recipe.precision, processes=recipe.processes
    )
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    if launch.agree(accelerator, path.is_file()):
        coreset = fitting(path, train)
    else:
        coreset = make_coreset(
            recipe.prune,
            train,
            test,
            normalization=Normalization(mean=recipe.data.mean, std=recipe.data.std),
            seed=recipe.seed,
            accelerator=accelerator,
        )
    if accelerator.is_main_process:
        ownership.claim(recipe, folder)
        coreset.save(path)
        print(_summary(coreset, train))
        print(f"core set: {path}")
    accelerator.end_training()


def _summary(coreset: "Coreset", train: "Dataset") -> str:
    """Kept and all images, per class where there are at most 20."""
    from latentdc.data.dataset import class_counts

    kept = train.labels[coreset.indices(train)].bincount().tolist()
    lines = [f"kept {len(coreset)} of {len(train)} images ({coreset.rule}, {coreset.order})"]
    if train.num_classes > 20:
        return f"{lines[0]}, {min(kept)} to {max(kept)} of each of {train.num_classes} classes"
    rows = zip(train.class_names, kept, class_counts(train).tolist(), strict=True)
    return "\n".join(lines + [f"  {name}: {count} of {of}" for name, count, of in rows])


if __name__ == "__main__":
    main()
