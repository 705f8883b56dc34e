"""Scores that were saved before or made elsewhere: parquet, csv, JSON or npy."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.prune.features import Features, read_features
from latentdc.prune.rules.names import RULES
from latentdc.prune.score_table import ScoreTable

FEATURES = "features.npy"  # beside a scores.parquet of ours
_OF_IMAGES = ("index", "hash", "label")  # columns that say which image a row is


def read_scores(path: Path, train: Dataset, rule: str) -> ScoreTable:
    """The scores in a file, in the order of `train`.

    Files of `latentdc prune` fit by content. Others have a row for each image in data-set order:
    a table whose columns are named by rules, or one column alone, which is then `rule`. A column
    `index` gives another order; `label`, a number or a class name, and `hash` are compared with the
    data set's.

    Raises:
        InputError: unreadable, another length or order, not finite, or no scores in it.
    """
    table = _read(path)
    if isinstance(table, pa.Table) and (ours := ScoreTable.from_arrow(table)) is not None:
        beside = path.with_name(FEATURES)
        own = beside.is_file() and _left_features(ours)
        features = read_features(beside, len(ours)) if own else None
        ours = ScoreTable(**{**vars(ours), "features": features})
        _require_finite(ours.columns, path)
        return ours.fitted(train)
    columns = _columns(table, train.class_names, path)
    for name, column in columns.items():
        if len(column) != len(train):
            raise InputError(
                f"{path} has {len(column)} rows ({name}) and {train.name} has {len(train)} images; "
                "one score per image is needed, in data-set order."
            )
    _in_order(columns, train, path)
    scores = {name: column.float() for name, column in columns.items() if name in RULES}
    others = [name for name in columns if name not in RULES]
    if not scores and len(others) == 1:
        scores = {rule: columns[others[0]].float()}
    if not scores:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or 'none'}; name the scores by a rule, "
            f"such as {rule!r}."
        )
    _require_finite(scores, path)
    facts: dict[str, object] = {"file": path.name}
    return ScoreTable(train.hashes, train.labels, train.class_names, scores, train.name, facts)


def _left_features(ours: ScoreTable) -> bool:
    """Whether this scoring left features; others beside it are of an earlier one."""
    asked = cast(list[str] | None, ours.facts.get("columns"))
    needs = asked is None or any(RULES[name].needs_features for name in asked if name in RULES)
    return needs and ours.facts.get("features") is None


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        if path.suffix == ".csv":
            return pyarrow.csv.read_csv(path)
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".json":
            return json.loads(path.read_text())
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read the scores {path}: {error}") from error
    raise InputError(f"{path}: scores are a .parquet, .csv, .json or .npy file.")


def _columns(table: Any, class_names: Sequence[str], path: Path) -> dict[str, Tensor]:
    """Numeric columns by name, and labels by number; a bare list is the column `scores`."""
    if isinstance(table, pa.Table):
        table = {name: table[name].to_numpy() for name in table.column_names}
    named = table if isinstance(table, Mapping) else {"scores": table}
    columns = {}
    for name, values in named.items():
        try:
            array = np.asarray(values)
            if name == "label" and array.dtype.kind not in "iuf":
                numbers = {class_name: label for label, class_name in enumerate(class_names)}
                array = np.array([numbers.get(class_name, -1) for class_name in array.tolist()])
            whole = np.issubdtype(array.dtype, np.integer)
            tensor = torch.from_numpy(array.astype(np.int64 if whole else np.float64))
        except (ValueError, TypeError) as error:
            if name in {*RULES, *_OF_IMAGES} or len(named) == 1:
                raise InputError(f"{path}: {name} is not a list of numbers: {error}") from error
            continue  # such as paths beside the scores
        if tensor.ndim != 1:
            raise InputError(f"{path}: {name} has shape {tuple(tensor.shape)}, not one per image.")
        columns[str(name)] = tensor
    return columns


def _in_order(columns: dict[str, Tensor], train: Dataset, path: Path) -> None:
    """Sort by `index`, and compare what says of which image a row is; takes these columns out."""
    index = columns.pop("index", None)
    if index is not None:
        if not torch.equal(index.sort().values, torch.arange(len(train))):
            raise InputError(f"{path}: index is not 0 to {len(train) - 1}, each once.")
        for name, column in columns.items():
            columns[name] = torch.empty_like(column).index_copy(0, index.long(), column)
    for name, own in (("label", train.labels), ("hash", train.hashes)):
        given = columns.pop(name, None)
        if given is not None and not torch.equal(given.long(), own):
            wrong = int((given.long() != own).sum())
            raise InputError(
                f"{path}: {name} differs from {train.name} in {wrong} of {len(own)} rows, so these "
                "scores are in another order, or of another data set."
            )


def _require_finite(columns: Mapping[str, Tensor], path: Path) -> None:
    for name, column in columns.items():
        if broken := int((~column.isfinite()).sum()):
            raise InputError(
                f"{path}: {broken} of {len(column)} scores in {name} are not finite; the first in "
                f"row {int((~column.isfinite()).nonzero()[0])}."
            )


def with_features(table: ScoreTable, features: Features | None) -> ScoreTable:
    """The table with these features, in data-set order; unchanged without."""
    return table if features is None else ScoreTable(**{**vars(table), "features": features})
