"""Columns of scores, from what was recorded of trainings and from features."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.prune.features import Features
from latentdc.prune.foreign import FEATURES
from latentdc.prune.look import Look
from latentdc.prune.plan import ScoringPlan
from latentdc.prune.quantities import PREDICTED
from latentdc.prune.rules.names import RULES
from latentdc.recipe import RuleSettings

Columns = dict[str, Tensor]


def of_look(look: Look, asked: Sequence[str], settings: RuleSettings) -> Columns:
    """Of one training or one look through given weights, on the main process."""
    records, trained = look.records, look.trained
    assert records is not None
    measured = [name for name in look.quantities.names if name in RULES or name == PREDICTED]
    scores = {name: records.column(name) for name in measured}
    derived = [n for n, rule in RULES.items() if rule.stage == "records" and trained]
    derived = [name for name in derived if RULES[name].free or name in asked]
    scores |= {name: torch.zeros(records.count) for name in derived}
    for some, values in records.chunks() if derived else ():
        for name in derived:
            scores[name][some] = RULES[name]({**values, **asdict(settings)})
    return scores


def means(parts: list[Columns]) -> Columns:
    """Over trainings; what the scorer says is the first one's."""
    means = {name: torch.zeros_like(column) for name, column in parts[0].items()}
    for name, mean in means.items():
        for part in parts:
            mean += part[name] / len(parts)
    return means | {PREDICTED: parts[0][PREDICTED]}


def seen_features(look: Look) -> Features | None:
    """Of the first scorer, where they are wanted."""
    return None if look.embeddings is None else Features(look.embeddings)


def keep_features(look: Look, folder: Path | None) -> None:
    """Move those in a file to the folder, under their final name; they stay open where they are."""
    if folder is not None and isinstance(look.embeddings, np.memmap):
        look.embeddings.flush()
        os.replace(str(look.embeddings.filename), folder / FEATURES)


def of_features(features: Features, train: Dataset, plan: ScoringPlan) -> Columns:
    """By the rules that look at all features at once."""
    given = {"features": features, "labels": train.labels, "seed": plan.seed}
    given["clusters"] = plan.settings.clusters or train.num_classes
    given = asdict(plan.settings) | given
    return {n: RULES[n](given) for n in plan.columns if RULES[n].stage == "features"}


def of_contents(train: Dataset, plan: ScoringPlan) -> Columns:
    """By the rules that need no scorer."""
    given = {"hashes": train.hashes, "labels": train.labels, "seed": plan.seed}
    given = asdict(plan.settings) | given
    return {n: RULES[n](given) for n in plan.columns if RULES[n].stage == "contents"}
