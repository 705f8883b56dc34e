"""`prune_dataset`: from a training split to its core set."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from accelerate import Accelerator

from latentdc import launch
from latentdc.arguments import folder_of
from latentdc.autograd import with_gradients
from latentdc.data.dataset import Dataset, class_counts, different_counts
from latentdc.data.open import plain_preprocessing
from latentdc.images import Plain
from latentdc.prune.budgets import most_kept, saved_classes
from latentdc.prune.choosing import choose_coreset
from latentdc.prune.coreset import Coreset
from latentdc.prune.made import make_scores
from latentdc.prune.scoring import check_train
from latentdc.recipe import Data, Prune, RuleSettings, Scorer


@with_gradients
def prune_dataset(
    train: Dataset,
    test: Dataset | None = None,
    *,
    score: str = "loss",
    order: Literal["easy", "hard", "middle"] = "easy",
    keep: float = 1.0,
    count: int | None = None,
    scope: Literal["class", "global"] = "class",
    scorer: Scorer | None = None,
    window: tuple[int, int] | None = None,
    columns: Sequence[str] = (),
    scores: str | None = None,
    features: str | None = None,
    rules: RuleSettings | None = None,
    normalization: Plain | None = None,
    seed: int = 0,
    folder: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Coreset:
    """Choose the core set of a training split.

    Args:
        train: images to choose from.
        test: shows whether the scorer is any good; chooses nothing. None takes `train`.
        score: the rule (docs/pruning.md).
        order: keep the easiest, the hardest or the middle images.
        keep: share of each class, or of all; 1 keeps everything and scores nothing.
        count: exact number in place of a share, of each class or in all.
        scope: rank inside each class, or all images together.
        scorer: the classifier behind the scores; None takes the defaults.
        window: first and last epoch of its training to look at; None looks at all.
        columns: further rules to score, which `folder` keeps.
        scores: a file of scores to use instead of scoring.
        features: a file of features to use in place of the scorer's.
        rules: settings of single rules.
        normalization: of the images; the scorer may have its own.
        seed: of the draws.
        folder: gets `scores.parquet`, and continues a killed scoring.
        accelerator: of this process; None makes one.

    Raises:
        InputError: a rule, budget, scorer or file that cannot be used.
        RunError: losses that are not finite.
    """
    spec = Prune(
        score=score,
        order=order,
        keep=keep,
        count=count,
        scope=scope,
        scorer=scorer or Scorer(),
        window=window,
        columns=columns,  # type: ignore[arg-type]  # any sequence but text is made a list there
        scores=scores,
        features=features,
        rules=rules or RuleSettings(),
    )
    check_train(train, test, seed, normalization, accelerator)
    folder = folder_of(folder, "folder")
    return make_coreset(
        spec,
        train,
        train if test is None else test,
        normalization=normalization or plain_preprocessing(Data(), train),
        seed=seed,
        accelerator=accelerator or Accelerator(),
        folder=folder,
    )


def make_coreset(
    prune: Prune,
    train: Dataset,
    test: Dataset,
    *,
    normalization: Plain,
    seed: int,
    accelerator: Accelerator,
    folder: Path | None = None,
) -> Coreset:
    """The core set that a recipe asks for: a saved one that fits `train`, or a new one.

    With a folder, the scores are kept there, and a killed scoring is continued.

    Raises:
        InputError: as `Coreset.load`, `Coreset.indices` and `prune_dataset`.
    """
    if prune.coreset is not None:
        return fitting(Path(prune.coreset), train)
    if prune.keeps_all and not prune.columns:
        return Coreset.whole(train, prune.order)
    _check_budget(prune, train, accelerator)
    table = make_scores(
        prune,
        train,
        test,
        normalization=normalization,
        seed=seed,
        accelerator=accelerator,
        folder=folder,
    )
    if prune.keeps_all:
        return Coreset.whole(train, prune.order)

    def choose() -> Coreset:
        return choose_coreset(
            table,
            train,
            score=prune.score,
            order=prune.order,
            keep=prune.keep,
            count=prune.count,
            scope=prune.scope,
            settings=prune.rules,
            seed=seed,
        )

    return launch.main_alone(accelerator, choose)


def _check_budget(prune: Prune, train: Dataset, accelerator: Accelerator) -> None:
    """Refuse a budget that this data set does not allow, and say where classes are saved."""
    sizes, rows = different_counts(train).tolist(), class_counts(train).tolist()
    if prune.keeps_all:
        return
    most_kept(sizes, keep=prune.keep, count=prune.count, scope=prune.scope, rows=rows)
    per_class = prune.scope == "class" and prune.count is None
    saved = saved_classes(sizes, prune.keep) if per_class else 0
    if saved and accelerator.is_main_process:
        print(
            f"latentdc: note: prune.keep={prune.keep} would leave {saved} of {len(sizes)} classes "
            "empty; each of them keeps its one best image.",
            file=sys.stderr,
        )


def fitting(path: Path, train: Dataset) -> Coreset:
    """A saved core set whose images are all in `train`.

    Raises:
        InputError: as `Coreset.load` and `Coreset.indices`.
    """
    saved = Coreset.load(path)
    saved.indices(train)
    return saved
