"""`ScoringPlan`: all that decides the scores of a data set, beside its images."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import file_digest, sha256
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Plain
from latentdc.prune.rules.names import RULES
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe import RuleSettings, Scorer


@dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """All that decides scores, beside the images.

    Attributes:
        columns: rules to score by; others that cost nothing more are scored too.
        scorer: network, weights and training.
        window: first and last epoch of a training to look at, counted from 1.
        settings: of single rules.
        normalization: of the images, unless the scorer has its own.
        seed: of all draws.
        precision: of the scorer.
        features: `file_identity` of given ones.
    """

    columns: tuple[str, ...]
    scorer: Scorer
    window: tuple[int, int]
    settings: RuleSettings
    normalization: Plain
    seed: int
    precision: str
    features: str | None = None

    def facts(self, train: Dataset) -> dict[str, object]:
        """With what tells the images from others, in JSON's types and without paths."""
        scorer = asdict(self.scorer) | {"weights": self.scorer.weights and self._weights()}
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        named |= {"scorer": scorer, "settings": asdict(self.settings)}
        named |= {"normalization": self.normalization.facts()}
        named |= {"resolution": train.resolution, "images": fingerprint(train)}
        return dict(json.loads(json.dumps(named)))

    def _weights(self) -> str:
        """What tells a file of weights from another, wherever it lies."""
        path = Path(self.scorer.weights or "")
        return file_identity(path) if path.is_file() else str(self.scorer.weights)


def with_bases(columns: Sequence[str], settings: RuleSettings) -> tuple[str, ...]:
    """The rules asked for and those that they rank by, in the order of the list of rules."""
    wanted = {*columns, *(base_of(name, settings) for name in columns)}
    return tuple(name for name in RULES if name in wanted)


def base_of(name: str, settings: RuleSettings) -> str | None:
    """The rule by whose column a choice ranks; None of rules that rank by none."""
    base = RULES[name].base
    return settings.base if base == "*" else base


def is_kept(path: Path, plan: ScoringPlan, train: Dataset) -> bool:
    """Whether the scores of these images by this plan lie there already, among others or alone.

    Raises:
        InputError: what lies there is damaged.
    """
    try:
        kept = ScoreTable.from_arrow(pq.read_table(path)) if path.is_file() else None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"the scores {path} are damaged ({error}); remove it.") from error
    if kept is None:
        return False
    scored = {*cast(list[str], kept.facts.get("columns", [])), *kept.columns}
    same = kept.facts | {"columns": None} == plan.facts(train) | {"columns": None}
    return same and scored.issuperset(plan.columns)


def file_identity(path: Path) -> str:
    """Name and content of a file, wherever it lies."""
    with path.open("rb") as file:
        return f"{path.name} {file_digest(file, 'sha256').hexdigest()[:16]}"


def fingerprint(train: Dataset) -> str:
    """16 hex digits of the images and labels, in their order, and of the classes."""
    digest = sha256(train.hashes.numpy().tobytes() + train.labels.numpy().tobytes())
    digest.update(repr(train.class_names).encode())
    return digest.hexdigest()[:16]
