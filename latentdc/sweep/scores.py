"""One scoring for all cells that ask the same scorer, whatever they keep by it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock

from latentdc import runtime
from latentdc.data.open import open_splits, plain_preprocessing
from latentdc.prune.prune import score_dataset
from latentdc.recipe import Recipe

# How cells choose from scores, which is theirs alone.
_CHOICE = ("score", "order", "keep", "count", "times_ipc", "scope", "columns")


def scores_folder(recipe: Recipe, folder: Path) -> Path | None:
    """Where the scores behind a recipe's core set lie in a sweep; None where it needs none."""
    prune = recipe.prune
    brought = prune.coreset is not None or prune.scores is not None
    if brought or recipe.objective.kind == "mtt" or (prune.keeps_all and not prune.columns):
        return None
    scored = {key: value for key, value in asdict(prune).items() if key not in _CHOICE}
    content = json.dumps([asdict(recipe.data), scored, recipe.seed, recipe.precision])
    return folder / "scores" / sha256(content.encode()).hexdigest()[:8]


def share_scores(
    recipe: Recipe, others: Iterable[Recipe], folder: Path, accelerator: Accelerator
) -> Path | None:
    """Score by all rules that the sweep asks this recipe's scorer for, unless that is done.

    Another process that scores the same is waited for.

    Args:
        recipe: of the cell that comes next.
        others: of all cells.
        folder: of the sweep.
        accelerator: device, precision and processes.

    Returns:
        The folder of the scores; None where the cell needs none.

    Raises:
        InputError: as `score_dataset`.
        RunError: likewise.
    """
    home = scores_folder(recipe, folder)
    if home is None:
        return None
    alike = [one.prune for one in others if scores_folder(one, folder) == home]
    columns = dict.fromkeys(name for prune in alike for name in (prune.score, *prune.columns))
    train, test = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
    lock = FileLock(home.with_suffix(".lock"))
    if accelerator.is_main_process:
        home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        score_dataset(
            train,
            replace(recipe.prune, columns=list(columns)),
            test,
            normalization=plain_preprocessing(recipe.data, train),
            seed=recipe.seed,
            accelerator=accelerator,
            folder=home,
        )
    finally:
        if accelerator.is_main_process:
            lock.release()
    return home
