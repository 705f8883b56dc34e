"""From scores to a core set, by any rule."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from latentdc.arguments import require_a
from latentdc.data.dataset import Dataset, class_counts, different_counts, different_rows
from latentdc.errors import InputError
from latentdc.prune.budgets import Scope, most_kept
from latentdc.prune.coreset import Coreset
from latentdc.prune.plan import base_of
from latentdc.prune.ranking import Order
from latentdc.prune.rules.names import RULES, Rule
from latentdc.prune.rules.random import random_scores
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.selection import choose_rows, select
from latentdc.recipe import Prune, Recipe, RuleSettings


def choose_coreset(
    table: ScoreTable,
    train: Dataset,
    *,
    score: str = "loss",
    order: Order = "easy",
    keep: float = 1.0,
    count: int | None = None,
    scope: Scope = "class",
    settings: RuleSettings | None = None,
    seed: int = 0,
) -> Coreset:
    """The core set that a rule chooses by scores that are there already.

    Of exact repeats the first alone is scored, counted and kept, unless everything is (`keep=1`).

    Args:
        table: scores, in any order.
        train: the images they are of.
        score: a rule that has a column in the table, or one that chooses by columns or features.
        order: `easy`, `hard` or `middle` images, whatever the sign of the score.
        keep: share of each class, or of all.
        count: exact number in place of a share, of each class or in all.
        scope: rank inside each class, or all images together.
        settings: of the rule.
        seed: of draws, where the rule makes any.

    Raises:
        InputError: scores of other images, no such column or features, or an impossible budget.
    """
    require_a(ScoreTable, table, "table", "such as score_dataset(train)")
    require_a(Dataset, train, "train", "the images that the scores are of")
    settings = settings or RuleSettings()
    Prune(  # refuses what does not go together; `scores` says that nothing is trained
        score=score, order=order, keep=keep, count=count, scope=scope, rules=settings, scores="-"
    )
    Recipe(seed=seed)
    table, rule = table.fitted(train), RULES[score]
    if keep != 1 or count is not None:
        rows = different_rows(train.hashes, train.labels)
        different, whole = different_counts(train).tolist(), class_counts(train).tolist()
        most_kept(different, keep=keep, count=count, scope=scope, rows=whole)
        table = table.select(rows) if len(rows) < len(train) else table
    if rule.chooses:
        choice = _Choice(rule, table, settings, base_of(score, settings), seed)
        scores = choice.hardness
        chosen = choose_rows(choice, table.labels, keep=keep, count=count, scope=scope)
        order = "middle" if score == "moderate" else "easy"
    else:
        scores = table.column(score)
        chosen = select(
            scores,
            table.labels,
            keep=keep,
            count=count,
            scope=scope,
            order=order,
            hard=rule.hard,
        )
    return Coreset(
        hashes=table.hashes[chosen],
        scores=scores[chosen],
        labels=table.labels[chosen],
        class_names=train.class_names,
        rule=score,
        order=order,
        keep=keep if count is None else len(chosen) / len(train),
        dataset=train.name,
    )


class _Choice:
    """A rule that chooses sets, among any rows of a table."""

    def __init__(
        self, rule: Rule, table: ScoreTable, settings: RuleSettings, base: str | None, seed: int
    ) -> None:
        self._rule, self._features = rule, table.features
        self.hardness = torch.zeros(len(table))  # what looks at features alone needs no other
        if base is not None:
            column = table.column(base)
            self.hardness = column if RULES[base].hard == "high" else -column
        self._draws = random_scores(table.hashes, seed)
        self._settings: dict[str, Any] = asdict(settings)
        if rule.needs_features and table.features is None:
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
