"""`make_scores`: the scores behind a core set, brought, kept from before, or made now."""

from pathlib import Path

import pyarrow.parquet as pq
from accelerate import Accelerator
from torch import Tensor

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Plain
from latentdc.prune import order
from latentdc.prune.features import own_features, read_features
from latentdc.prune.foreign import UNREADABLE, read_scores, with_features
from latentdc.prune.plan import ScoringPlan, base_of, file_identity, is_kept, with_bases
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.scoring import score_by_plan
from latentdc.recipe import Prune

SCORES = "scores.parquet"  # in a run folder


def _losses(path: Path, train: Dataset) -> Tensor | None:
    """A scorer's losses of these images, where an earlier scoring left them."""
    try:
        kept = ScoreTable.from_arrow(pq.read_table(path)) if path.is_file() else None
        if kept is None or "scorer" not in kept.facts or "loss" not in kept.columns:
            return None
        return kept.fitted(train).columns["loss"]
    except (InputError, *UNREADABLE):
        return None  # they are not needed


def make_scores(
    prune: Prune,
    train: Dataset,
    test: Dataset,
    *,
    normalization: Plain,
    seed: int,
    accelerator: Accelerator,
    folder: Path | None = None,
) -> ScoreTable:
    """The scores behind a recipe's core set: from its file, kept in the folder, or made now.

    Raises:
        InputError: as `read_scores` and `score_by_plan`.
    """
    brought = Path(prune.features) if prune.features is not None else None
    features = own_features(train) if brought is None else read_features(brought, len(train))
    if brought is not None:
        order.tell_features(brought, train)
    if prune.scores is not None:
        ranks_by = base_of(prune.score, prune.rules) or prune.score
        path = None if folder is None else folder / SCORES
        losses = None if path is None else _losses(path, train)
        table = read_scores(Path(prune.scores), train, ranks_by, losses)
        if path is not None and accelerator.is_main_process and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            table.save(path)  # by content, so that it fits every copy of the data set
        return with_features(table, features)
    plan = ScoringPlan(
        columns=with_bases([prune.score, *prune.columns], prune.rules),
        scorer=prune.scorer,
        window=prune.window or (1, prune.scorer.epochs),
        settings=prune.rules,
        normalization=normalization,
        seed=seed,
        precision=accelerator.mixed_precision,
        features=None if brought is None else file_identity(brought),
    )
    kept = folder and folder / SCORES
    if kept is not None and launch.agree(accelerator, is_kept(kept, plan, train)):
        return with_features(read_scores(kept, train, prune.score), features)
    table = score_by_plan(
        plan,
        train,
        test,
        features=features,
        folder=folder,
        accelerator=accelerator,
    )
    if kept is not None and accelerator.is_main_process:
        kept.parent.mkdir(parents=True, exist_ok=True)  # no training may have made it
        table.save(kept)
    return table
