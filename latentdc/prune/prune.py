"""Scores of a training split, and the core set that they choose."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import runtime
from latentdc.arguments import folder_of, require_a, require_able, require_seed
from latentdc.data.dataset import Dataset, class_counts, different_counts, different_rows
from latentdc.data.open import plain_preprocessing
from latentdc.errors import InputError
from latentdc.images import Plain
from latentdc.prune.coreset import Coreset
from latentdc.prune.dynamics import compute_scores
from latentdc.prune.features import own_features, read_features
from latentdc.prune.foreign import read_scores
from latentdc.prune.rules.sampling import random_scores
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.scoring import Scoring, base_of
from latentdc.prune.select import (
    choose_rows,
    class_budgets,
    class_rows,
    most_kept,
    saved_classes,
    select,
)
from latentdc.ranks import say
from latentdc.recipe import Data, Prune
from latentdc.recipe.rules import RULES
from latentdc.runtime import with_gradients

SCORES = "scores.parquet"  # in a run folder


@with_gradients
def prune_dataset(
    train: Dataset,
    prune: Prune,
    test: Dataset | None = None,
    *,
    normalization: Plain | None = None,
    seed: int = 0,
    folder: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Coreset:
    """The core set of a training split: a saved one that fits it, or a new one.

    Args:
        train: images to choose from.
        prune: rule, budget and scorer.
        test: shows whether the scorer is any good, and chooses nothing; None takes `train`.
        normalization: of the images, unless the scorer has its own; None takes the default.
        seed: of all draws.
        folder: keeps the scores (`scores.parquet`, `features.npy`), and continues a killed scoring.
        accelerator: device, precision and processes; None makes one.

    Raises:
        InputError: a rule, budget, scorer or file that cannot be used, or a scorer at chance.
        RunError: losses that are not finite.
    """
    _check_arguments(train, prune, test, normalization, seed, accelerator)
    if prune.coreset is not None:
        return Coreset.load(Path(prune.coreset), train)
    if prune.keeps_all and not prune.columns:
        return Coreset.whole(train, prune.order)
    accelerator = accelerator or Accelerator()
    if not prune.keeps_all:
        _check_budget(prune, train)
    table = score_dataset(
        train,
        prune,
        test,
        normalization=normalization,
        seed=seed,
        folder=folder,
        accelerator=accelerator,
    )
    if prune.keeps_all:
        return Coreset.whole(train, prune.order)
    return runtime.main_alone(accelerator, lambda: choose_coreset(table, train, prune, seed=seed))


@with_gradients
def score_dataset(
    train: Dataset,
    prune: Prune,
    test: Dataset | None = None,
    *,
    normalization: Plain | None = None,
    seed: int = 0,
    folder: Path | None = None,
    accelerator: Accelerator | None = None,
) -> ScoreTable:
    """The scores of every image by `prune.score`, `prune.columns` and what costs nothing more.

    They come from the file `prune.scores`, are kept in the folder from before, or are made now:
    means over the epochs of `prune.window` and over independent trainings, because a network that
    was trained to the end knows its own training images by heart.

    Args:
        train: images to score.
        prune: rules, scorer and window; what it keeps is of no account here.
        test: as of `prune_dataset`, likewise the others.
        normalization: see there.
        seed: see there.
        folder: see there.
        accelerator: see there.

    Raises:
        InputError: as `prune_dataset`.
        RunError: likewise.
    """
    _check_arguments(train, prune, test, normalization, seed, accelerator)
    folder, accelerator = folder_of(folder, "folder"), accelerator or Accelerator()
    kept = None if folder is None else folder / SCORES
    features = own_features(train)
    if prune.features is not None:
        features = read_features(Path(prune.features), len(train))
        say(
            "note",
            f"{Path(prune.features).name} does not say which image each row is of, so the order of "
            f"{train.name} is taken on trust.",
        )
    if prune.scores is not None:
        table = _read_score_file(prune, train, kept)
        if kept is not None and accelerator.is_main_process and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace(table, features_hash=None).save(kept)  # by content, so that it fits every copy
        return table.with_features(features)
    scoring = Scoring(
        train=train,
        test=train if test is None else test,
        prune=prune,
        normalization=normalization or plain_preprocessing(Data(), train),
        seed=seed,
        folder=folder,
        accelerator=accelerator,
    )
    earlier = None if kept is None else _kept_scores(kept, scoring)
    if kept is not None and runtime.broadcast(accelerator, earlier is not None):
        earlier = earlier if earlier is not None else ScoreTable.load(kept)
        return earlier.fitted(train).with_features(features)
    table = compute_scores(scoring, features)
    if kept is not None and accelerator.is_main_process:
        kept.parent.mkdir(parents=True, exist_ok=True)  # no training may have made it
        table.save(kept)
    return table


def choose_coreset(table: ScoreTable, train: Dataset, prune: Prune, *, seed: int = 0) -> Coreset:
    """The core set that a rule chooses by scores that are there already.

    Of exact repeats the first alone is scored, counted and kept, unless everything is (`keep=1`).

    Args:
        table: scores, in any order, with the column of the rule or what it chooses by.
        train: the images they are of.
        prune: rule and budget; scorer and files are of no account here.
        seed: of draws, where the rule makes any.

    Raises:
        InputError: scores of other images, no such column or features, or an impossible budget.
    """
    require_a(ScoreTable, table, "table", "such as score_dataset(train, Prune())")
    _check_arguments(train, prune, None, None, seed, None)
    table, rule, name = table.fitted(train), RULES[prune.score], prune.score
    if not prune.keeps_all:
        rows = different_rows(train.hashes, train.labels)
        most_kept(different_counts(train).tolist(), prune, class_counts(train).tolist())
        table = table.select(rows) if len(rows) < len(train) else table
    if rule.chooses:
        choice = _Choice(table, prune, seed)
        scores, kept_order = choice.hardness, "middle" if name == "moderate" else "easy"
        at_once = rule.stage == "groups"
        chosen = choice.groups() if at_once else choose_rows(choice, table.labels, prune)
    else:
        scores, kept_order = table.column(name), prune.order
        chosen = select(scores, table.labels, prune, rule.hard)
    return Coreset(
        hashes=table.hashes[chosen],
        scores=scores[chosen],
        labels=table.labels[chosen],
        class_names=train.class_names,
        rule=name,
        order=kept_order,
        keep=prune.keep if prune.count is None else len(chosen) / len(train),
        dataset=train.name,
    )


class _Choice:
    """A rule that chooses sets, among any rows of a table."""

    def __init__(self, table: ScoreTable, prune: Prune, seed: int) -> None:
        self._rule, self._features = RULES[prune.score], table.features
        self._table, self._prune, self._seed = table, prune, seed
        self.hardness = torch.zeros(len(table))  # what looks at features alone needs no other
        base = base_of(prune.score, prune.rules)
        if base is not None:
            self.hardness = table.hardness(base)
        self._draws = random_scores(table.hashes, seed)
        self._settings: dict[str, Any] = asdict(prune.rules)
        if self._rule.needs_features and table.features is None:
            raise InputError(
                "this rule chooses among features, and the scores come without: keep features.npy "
                "beside the scores, or name a file with prune.features."
            )

    def __call__(self, rows: Tensor, count: int) -> Tensor:
        available = {
            **self._settings,
            "count": count,
            "hardness": self.hardness[rows],
            "draws": self._draws[rows],
            "features": self._features and self._features.select(rows),
        }
        return rows[self._rule(available)]

    def groups(self) -> Tensor:
        """(M,) ascending rows that a rule chooses of all classes at once."""
        table, rows = self._table, class_rows(self._table.labels)
        names = table.class_names[: len(rows)]
        by_content = [own[table.hashes[own].argsort(stable=True)] for own in rows]
        counts = class_budgets([len(own) for own in rows], self._prune)
        available = {
            **self._settings,
            "features": self._features,
            "members": dict(zip(names, by_content, strict=True)),
            "counts": dict(zip(names, counts, strict=True)),
            "seed": self._seed,
        }
        chosen: Tensor = self._rule(available).sort().values
        return chosen


def _check_arguments(
    train: object,
    prune: object,
    test: object,
    normalization: object,
    seed: object,
    accelerator: object,
) -> None:
    """Refuse arguments of another kind.

    Raises:
        InputError: says which.
    """
    require_a(Dataset, train, "train", "such as one of open_splits(Data())")
    require_a(Prune, prune, "prune", "such as Prune(score='loss', keep=0.2)")
    assert isinstance(prune, Prune)
    if prune.times_ipc is not None:
        raise InputError(
            "prune.times_ipc is a multiple of a recipe's ipc, which is not known here; give "
            "prune.count, the number of images of each class."
        )
    if test is not None:
        require_a(Dataset, test, "test", "such as one of open_splits(Data())")
    if normalization is not None:
        require_able("__call__ facts", normalization, "normalization", "a Normalization")
    require_seed(seed)
    if accelerator is not None:
        require_a(Accelerator, accelerator, "accelerator", "make one, or leave it out")


def _check_budget(prune: Prune, train: Dataset) -> None:
    """Refuse a budget that this data set does not allow, and say where classes are saved."""
    sizes = different_counts(train).tolist()
    most_kept(sizes, prune, class_counts(train).tolist())
    if saved := saved_classes(sizes, prune):
        say(
            "note",
            f"prune.keep={prune.keep} would leave {saved} of {len(sizes)} classes empty; each of "
            "them keeps its one best image.",
        )


def _read_score_file(prune: Prune, train: Dataset, kept: Path | None) -> ScoreTable:
    """The scores of the file that a recipe names, held against losses of an earlier scoring."""
    losses = None
    if kept is not None and kept.is_file():
        with suppress(InputError):  # they are not needed
            earlier = ScoreTable.load(kept)
            if "scorer" in earlier.facts and "loss" in earlier.columns:
                losses = earlier.fitted(train).column("loss")
    ranks_by = base_of(prune.score, prune.rules) or prune.score
    return read_scores(Path(cast(str, prune.scores)), train, ranks_by, losses)


def _kept_scores(path: Path, scoring: Scoring) -> ScoreTable | None:
    """The scores that lie there, where they are these, among others or alone.

    Raises:
        InputError: what lies there is damaged.
    """
    if not path.is_file():
        return None
    kept = ScoreTable.load(path)
    scored = {*cast(Sequence[str], kept.facts.get("columns", [])), *kept.columns}
    same = kept.facts | {"columns": None} == scoring.facts | {"columns": None}
    return kept if same and scored.issuperset(scoring.columns) else None
