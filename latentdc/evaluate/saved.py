"""Score a saved synthetic set by its recipe: the work of `python -m latentdc.evaluate`."""

from pathlib import Path

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.render import to_text
from latentdc.evaluate.table import score_table
from latentdc.images import Normalization
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Recipe
from latentdc.synthetic import SyntheticSet

RESULTS = "evaluation.json"  # beside results.json, which the run itself wrote


def score_saved(folder: Path, recipe: Recipe, protocol: EvalProtocol, output: Path) -> None:
    """Score the set in `folder` and the recipe's other rows, print the table and save it.

    Args:
        folder: of the set.
        recipe: its data, rows and launch settings are used.
        protocol: students, seeds and budget.
        output: gets `evaluation.json` and the finished trainings in `rows/`.
    """
    accelerator = launch.start(
        threads=recipe.threads, precision=recipe.precision, processes=recipe.processes
    )
    distilled = SyntheticSet.from_pretrained(folder)
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    table = score_table(
        distilled,
        train,
        test,
        protocol,
        ipc=int(distilled.labels.bincount().max()),
        normalization=Normalization(recipe.data.mean, recipe.data.std),
        coreset=_coreset(recipe, folder, train),
        include=recipe.evaluate.rows or ("distilled", "random"),
        seen=recipe.objective.network,
        rows=output / "rows",
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        table.save(output / RESULTS)
        print(f"\n{to_text(table)}\n\nresults: {output / RESULTS}")


def _coreset(recipe: Recipe, folder: Path, train: Dataset) -> Dataset | None:
    """The training images that the run kept, None where nothing says which."""
    if recipe.prune.keep == 1 and recipe.prune.coreset is None:
        return train
    named = recipe.prune.coreset
    path = folder.parent / "coreset.parquet" if named is None else Path(named)
    return train.select(Coreset.load(path).indices(train)) if path.is_file() else None
