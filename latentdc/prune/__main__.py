"""`python -m latentdc.prune RECIPE`: choose and save the core set of a recipe.

Imports no torch before the recipe is checked.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentdc.cli import exits, read_recipe, recipe_parser, run_folder
from latentdc.prune.check import check_prune
from latentdc.recipe import Recipe

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.prune.coreset import Coreset


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = recipe_parser("python -m latentdc.prune", "Choose and save the core set of a recipe.")
    options = parser.parse_args(argv)

    def work() -> None:
        recipe, name = read_recipe(Recipe, options)
        check_prune(recipe.prune, recipe.data)
        _prune(recipe, name)

    exits(work)


def _prune(recipe: Recipe, name: str) -> None:
    from latentdc import launch
    from latentdc.data.open import open_splits
    from latentdc.images import Normalization
    from latentdc.prune.pipeline import make_coreset

    accelerator = launch.start(
        threads=recipe.threads, precision=recipe.precision, processes=recipe.processes
    )
    train, test = open_splits(recipe.data)
    normalization = Normalization(mean=recipe.data.mean, std=recipe.data.std)
    coreset = make_coreset(
        recipe.prune,
        train,
        test,
        normalization=normalization,
        seed=recipe.seed,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        folder = run_folder(recipe.output, name)
        folder.mkdir(parents=True, exist_ok=True)
        coreset.save(folder / "coreset.parquet")
        print(_summary(coreset, train))
        print(f"core set: {folder / 'coreset.parquet'}")
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
