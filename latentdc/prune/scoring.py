"""`score_dataset`: the scores of a training split, by given weights or by trainings on the spot."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator

from latentdc import launch
from latentdc.arguments import folder_of, require_a, require_able, require_texts
from latentdc.autograd import with_gradients
from latentdc.data.dataset import Dataset
from latentdc.data.open import plain_preprocessing
from latentdc.errors import InputError
from latentdc.images import Normalization, Plain
from latentdc.prune.columns import (
    Columns,
    keep_features,
    means,
    of_contents,
    of_features,
    of_look,
    seen_features,
)
from latentdc.prune.features import Features, own_features
from latentdc.prune.look import Look
from latentdc.prune.plan import ScoringPlan, with_bases
from latentdc.prune.rules.memorization import held_out_parts
from latentdc.prune.rules.names import RULES
from latentdc.prune.runs import Runs
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.workspace import Workspace
from latentdc.recipe import Data, Prune, Recipe, RuleSettings, Scorer

PASSES = {"predictions", "last", "records"}  # stages of what a scorer is looked through for


@with_gradients
def score_dataset(
    train: Dataset,
    test: Dataset | None = None,
    *,
    columns: Sequence[str] = ("loss",),
    scorer: Scorer | None = None,
    window: tuple[int, int] | None = None,
    rules: RuleSettings | None = None,
    normalization: Plain | None = None,
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
    require_texts(columns, "columns")
    if not columns:
        raise InputError("columns names one rule or more, such as ['loss'], got [].")
    check_train(train, test, seed, normalization, accelerator)
    folder = folder_of(folder, "folder")
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
        normalization=normalization or plain_preprocessing(Data(), train),
        seed=seed,
        precision=accelerator.mixed_precision,
    )
    test = train if test is None else test
    return score_by_plan(
        plan, train, test, features=own_features(train), folder=folder, accelerator=accelerator
    )


def check_train(
    train: object, test: object, seed: int, normalization: object, accelerator: object
) -> None:
    """Refuse arguments of scoring that are no settings, and of another kind.

    Raises:
        InputError: says which.
    """
    for name, one in {"train": train, **({} if test is None else {"test": test})}.items():
        require_a(Dataset, one, name, "such as one of open_splits(Data())")
    Recipe(seed=seed)
    if normalization is not None:
        require_able("__call__ facts", normalization, "normalization", "a Normalization")
    if accelerator is not None:
        require_a(Accelerator, accelerator, "accelerator", "make one, or leave it out")


@with_gradients
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
    asked, scorer, facts = plan.columns, plan.scorer, plan.facts(train)
    normalization = plan.normalization
    if isinstance(normalization, Normalization):
        normalization = Normalization(
            scorer.mean or normalization.mean, scorer.std or normalization.std
        )
    runs = Runs(
        train=train,
        test=test,
        scorer=scorer,
        normalization=normalization,
        seed=plan.seed,
        window=plan.window,
        asked=asked,
        workspace=Workspace(folder, json.dumps(facts), accelerator),
        accelerator=accelerator,
    )
    scores: Columns = {}
    looks: list[Look] = []
    scores |= of_contents(train, plan)
    wants_features = features is None and any(RULES[name].needs_features for name in asked)
    if wants_features or {RULES[name].stage for name in asked} & PASSES:
        try:
            looks = _looks(runs, wants_features)
        except InputError:
            runs.workspace.refused()
            raise
        if accelerator.is_main_process:
            scores |= means([of_look(look, asked, plan.settings) for look in looks])
            features = features or seen_features(looks[0])
    if any(RULES[name].stage == "subsets" for name in asked):
        scores |= _of_subsets(runs, plan.settings.subsets)
    if features is not None:
        scores |= of_features(features, train, plan)
    scores = cast(Columns, launch.agree(accelerator, scores))
    if looks:
        keep_features(looks[0], folder)  # not before the rest is there: a restart looks for them
    runs.workspace.clear()
    return ScoreTable(
        train.hashes, train.labels, train.class_names, scores, train.name, facts, features
    )


def _looks(runs: Runs, features: bool) -> list[Look]:
    if runs.scorer.weights is not None:
        return [runs.given(features=features)]
    return [
        runs.trained(f"run-{run}", features=features and run == 0)
        for run in range(runs.scorer.runs)
    ]


def _of_subsets(runs: Runs, subsets: int) -> Columns:
    held_out = held_out_parts(runs.train.labels, runs.train.hashes, subsets, runs.seed)
    last = replace(runs, window=(runs.window[1], runs.window[1]), asked=())
    looks = [
        last.trained(f"subset-{k}-of-{subsets}", rows=(~held_out[k]).nonzero().squeeze(1))
        for k in range(subsets)
    ]
    if not runs.accelerator.is_main_process:
        return {}
    losses = torch.stack([look.records.column("loss") for look in looks if look.records])
    given = {"loss": losses, "held_out": held_out}
    return {name: RULES[name](given) for name in runs.asked if RULES[name].stage == "subsets"}
