"""`score_dataset`: the scores of a training split, by given weights or by trainings on the spot."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Normalization
from latentdc.prune.features import Features
from latentdc.prune.foreign import FEATURES
from latentdc.prune.look import Look
from latentdc.prune.plan import ScoringPlan, fingerprint, with_bases
from latentdc.prune.quantities import PREDICTED
from latentdc.prune.rules.memorization import held_out_parts
from latentdc.prune.rules.names import RULES
from latentdc.prune.runs import Runs
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.workspace import Workspace
from latentdc.recipe import Prune, RuleSettings, Scorer

PASSES = {"predictions", "last", "records"}  # stages of what a scorer is looked through for
Columns = dict[str, Tensor]


def score_dataset(
    train: Dataset,
    test: Dataset | None = None,
    *,
    columns: Sequence[str] = ("loss",),
    scorer: Scorer | None = None,
    window: tuple[int, int] | None = None,
    rules: RuleSettings | None = None,
    normalization: Normalization | None = None,
    seed: int = 0,
    folder: Path | None = None,
    accelerator: Accelerator | None = None,
) -> ScoreTable:
    """Score every image by the rules asked for, and by those that cost nothing more.

    Means over the epochs of the window and over independent trainings, because a network that was
    trained to the end knows its own training images by heart.

    Args:
        train: images to score.
        test: shows whether the scorer is any good, and chooses nothing; None takes `train`.
        columns: rules; what sets of images are chosen by is scored for them.
        scorer: network, weights and training; None takes the defaults.
        window: first and last epoch of a training to look at, counted from 1; None takes all.
        rules: settings of single rules.
        normalization: of the images, unless the scorer has its own.
        seed: of all draws.
        folder: where a killed scoring is continued, and features are kept; None keeps nothing.
        accelerator: device, precision and processes.

    Raises:
        InputError: a scorer that cannot be had, does not fit, or is at chance on `test`.
        RunError: losses that are not finite.
    """
    accelerator, scorer = accelerator or Accelerator(), scorer or Scorer()
    spec = Prune(  # refuses what does not go together
        score=columns[0],
        columns=list(columns[1:]),
        scorer=scorer,
        window=window,
        rules=rules or RuleSettings(),
    )
    plan = ScoringPlan(
        columns=with_bases(columns, spec.rules),
        scorer=scorer,
        window=window or (1, scorer.epochs),
        settings=spec.rules,
        normalization=normalization or Normalization(),
        seed=seed,
        precision=accelerator.mixed_precision,
    )
    test = train if test is None else test
    return score_by_plan(plan, train, test, folder=folder, accelerator=accelerator)


def score_by_plan(
    plan: ScoringPlan,
    train: Dataset,
    test: Dataset,
    *,
    features: Features | None = None,
    folder: Path | None,
    accelerator: Accelerator,
) -> ScoreTable:
    """`score_dataset` for all processes: each gets the same scores, the main one the features.

    Args:
        plan: what decides the scores.
        train: images to score.
        test: shows whether the scorer is any good.
        features: of the images, in place of the scorer's.
        folder: as in `score_dataset`.
        accelerator: device, precision and processes.

    Raises:
        InputError: as `score_dataset`.
        RunError: likewise.
    """
    asked, scorer, facts = plan.columns, plan.scorer, plan.facts()
    normalization = Normalization(
        scorer.mean or plan.normalization.mean, scorer.std or plan.normalization.std
    )
    identity = json.dumps([facts, fingerprint(train)])
    runs = Runs(
        train=train,
        test=test,
        scorer=scorer,
        normalization=normalization,
        seed=plan.seed,
        window=plan.window,
        asked=asked,
        workspace=Workspace(folder, identity, accelerator),
        accelerator=accelerator,
    )
    scores: Columns = {}
    if "random" in asked:
        scores["random"] = RULES["random"]({"hashes": train.hashes, "seed": plan.seed})
    wants_features = features is None and any(RULES[name].needs_features for name in asked)
    if wants_features or {RULES[name].stage for name in asked} & PASSES:
        try:
            looks = _looks(runs, wants_features)
        except InputError:
            runs.workspace.refused()
            raise
        if accelerator.is_main_process:
            scores |= _means([_of_look(look, asked, plan.settings) for look in looks])
            features = features or _kept_features(looks[0], folder)
    if "memorization" in asked:
        scores |= _memorization(runs, plan.settings.subsets)
    if features is not None:
        scores |= _of_features(features, train, plan)
    scores = cast(Columns, launch.agree(accelerator, scores))
    runs.workspace.clear()
    return ScoreTable(
        train.hashes, train.labels, train.class_names, scores, train.name, facts, features
    )


def _of_features(features: Features, train: Dataset, plan: ScoringPlan) -> Columns:
    given = {"features": features, "labels": train.labels, "seed": plan.seed}
    given["clusters"] = plan.settings.clusters or train.num_classes
    stage = [name for name in plan.columns if RULES[name].stage == "features"]
    return {name: RULES[name](given) for name in stage}


def _looks(runs: Runs, features: bool) -> list[Look]:
    if runs.scorer.weights is not None:
        return [runs.given(features=features)]
    return [
        runs.trained(f"run-{run}", features=features and run == 0)
        for run in range(runs.scorer.runs)
    ]


def _of_look(look: Look, asked: Sequence[str], settings: RuleSettings) -> Columns:
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


def _means(parts: list[Columns]) -> Columns:
    """Over trainings; what the scorer says is the first one's."""
    means = {name: torch.zeros_like(column) for name, column in parts[0].items()}
    for name, mean in means.items():
        for part in parts:
            mean += part[name] / len(parts)
    return means | {PREDICTED: parts[0][PREDICTED]}


def _kept_features(look: Look, folder: Path | None) -> Features | None:
    """Of the first scorer; in the folder under their final name."""
    if look.embeddings is None:
        return None
    if folder is None or not isinstance(look.embeddings, np.memmap):
        return Features(look.embeddings)
    look.embeddings.flush()
    os.replace(str(look.embeddings.filename), folder / FEATURES)
    return Features(np.load(folder / FEATURES, mmap_mode="r"))


def _memorization(runs: Runs, subsets: int) -> Columns:
    held_out = held_out_parts(runs.train.labels, runs.train.hashes, subsets, runs.seed)
    last = replace(runs, window=(runs.window[1], runs.window[1]), asked=())
    looks = [
        last.trained(f"subset-{k}-of-{subsets}", rows=(~held_out[k]).nonzero().squeeze(1))
        for k in range(subsets)
    ]
    if not runs.accelerator.is_main_process:
        return {}
    losses = torch.stack([look.records.column("loss") for look in looks if look.records])
    return {"memorization": RULES["memorization"]({"loss": losses, "held_out": held_out})}
