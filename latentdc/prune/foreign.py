"""Scores that were saved before or made elsewhere: parquet, csv, JSON, npy or npz."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.select import ranks
from latentdc.ranks import say
from latentdc.recipe.rules import RULES

_OF_IMAGES = ("index", "hash", "label")  # columns that say which image a row is
# What else the place in the data set is called, and how pandas writes it without being asked.
_PLACES = ("index", "idx", "id", "", "unnamed: 0", "__index_level_0__")
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, RecursionError),
    *(BadZipFile, pa.ArrowException),
)
# A list is warned about if a shuffled one would depend as much with this probability.
_CHANCE = 0.01
_IMAGES, _CLASSES = 1000, 5  # below which right orders often show no difference between classes


def read_scores(path: Path, train: Dataset, rule: str) -> ScoreTable:
    """The scores in a file, in the order of `train`.

    Files of `latentdc prune` fit by content. Others have a row for each image in data-set order:
    a table whose columns are named by rules, or one column alone, which is then `rule`. A column
    `index` gives another order; `label`, a number or a class name, and `hash` are compared with the
    data set's. An order that they leave open is said, and warned about where it is unlikely.

    Raises:
        InputError: unreadable, another length or order, not finite, or no scores in it.
    """
    table = _read(path)
    ours = ScoreTable.from_arrow(table, path) if isinstance(table, pa.Table) else None
    if ours is not None:
        _require_finite(ours.columns, path)
        return ours.fitted(train)
    columns = _columns(table, train, path)
    for name, column in columns.items():
        if len(column) != len(train):
            raise InputError(
                f"{path} has {len(column)} rows ({name}) and {train.name} has {len(train)} images; "
                "one score per image is needed, in data-set order."
            )
    known = _sort_and_compare(columns, train, path)
    found = {name: column for name, column in columns.items() if name in RULES}
    others = [name for name in columns if name not in RULES]
    if not found and len(others) == 1:
        found = {rule: columns[others[0]]}
    if not found:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or 'none'}; name the scores by a rule, "
            f"such as {rule!r}."
        )
    scores = {name: column.float() for name, column in found.items()}
    _require_finite(scores, path)
    for name, column in found.items():
        before, after = len(column.unique()), len(scores[name].unique())
        if after < before / 2:
            raise InputError(
                f"{path}: of {before} different scores in {name}, single precision tells {after} "
                "apart; subtract their mean, or save their ranks."
            )
    if not known:
        beside = {name: columns[name] for name in others if columns[name] is not found.get(rule)}
        _warn_of_places(beside, scores, path)
        _warn_about_order(scores, train, path)
    facts: dict[str, object] = {"file": path.name, "columns": []}  # no features lie beside it
    return ScoreTable(train.hashes, train.labels, train.class_names, scores, train.name, facts)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        if path.suffix == ".csv":
            return _read_csv(path)
        if path.suffix in (".npy", ".npz"):
            with path.open("rb") as file:
                loaded = np.load(file, allow_pickle=False)
                return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
        if path.suffix == ".json":
            return _read_json(path)
    except _UNREADABLE as error:
        raise InputError(
            f"cannot read the scores {path}: {error or type(error).__name__}"
        ) from error
    raise InputError(f"{path}: scores are a .parquet, .csv, .json, .npy or .npz file.")


def _read_csv(path: Path) -> Any:
    table = pyarrow.csv.read_csv(path)
    if not all(map(_is_number, table.column_names)):
        return table
    plain = pyarrow.csv.ReadOptions(autogenerate_column_names=True)  # there is no line of names
    return pyarrow.csv.read_csv(path, read_options=plain)


def _read_json(path: Path) -> Any:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    by_place = isinstance(content, dict) and content and all(map(str.isdecimal, content))
    if not by_place:
        return content
    return {"index": [int(key) for key in content], "scores": list(content.values())}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(table: Any, train: Dataset, path: Path) -> dict[str, Tensor]:
    """Numeric columns by name, and labels by number; a bare list is the column `scores`."""
    if isinstance(table, pa.Table):
        names = table.column_names
        if len(set(names)) < len(names):
            raise InputError(f"{path}: a column stands there twice: {', '.join(names)}.")
        table = {name: table[name] for name in names}
    named = table if isinstance(table, Mapping) else {"scores": table}
    needed = {*RULES, *_OF_IMAGES}
    respelled = {name.casefold(): name for name in map(str, named)}
    for plain in (needed & {*respelled}) - {*named, "hash"}:  # which is latentdc's own
        named = {plain if name == respelled[plain] else name: named[name] for name in named}
        needed.discard(plain)  # it may be something else
    if len(named) == 1 or set(named) == {"index", "scores"}:
        needed.update(named)
    columns = {}
    for name, values in named.items():
        try:
            array = np.asarray(values)
            array = _positions(array, train) if name == "label" else array
            if array.dtype.kind not in "biuf":
                kinds = {type(value).__name__ for value in array.ravel().tolist()}
                raise TypeError(f"it holds {', '.join(sorted(kinds))}")
            tensor = torch.from_numpy(array.astype(np.int64 if name == "hash" else np.float64))
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            if name in needed:
                raise InputError(f"{path}: {name} is not a list of numbers: {error}") from error
            continue  # such as paths beside the scores
        if tensor.ndim != 1:
            raise InputError(f"{path}: {name} has shape {tuple(tensor.shape)}, not one per image.")
        columns[str(name)] = tensor
    return columns


def _positions(labels: NDArray[Any], train: Dataset) -> NDArray[Any]:
    """Labels as positions of classes, -1 of others; numbers are such, if no class is called so."""
    numbers = labels.dtype.kind in "iuf"
    by_number = np.array_equal(labels, train.labels) or not all(
        map(str.isdecimal, train.class_names)
    )
    if numbers and by_number:
        return labels
    positions = {name: label for label, name in enumerate(train.class_names)}
    names = (labels.astype(np.int64) if numbers else labels).tolist()
    return np.array([positions.get(str(name), -1) for name in names])


def _sort_and_compare(columns: dict[str, Tensor], train: Dataset, path: Path) -> bool:
    """Sort by `index`, and compare what says of which image a row is; takes these columns out.

    Returns:
        Whether the order is known to be right: by hashes, or by labels that are not sorted, which
        no other order of images is likely to have.
    """
    called = next((name for name in columns if name.casefold() in _PLACES), None)
    if called is not None:
        index = columns.pop(called)
        rows = index.long()
        if bool((rows != index).any()) or not torch.equal(
            rows.sort().values, torch.arange(len(train))
        ):
            raise InputError(
                f"{path}: {called or 'its first column'} is not 0 to {len(train) - 1}, each once; "
                "a column of that name gives the place of each image in the data set."
            )
        for name, column in columns.items():
            columns[name] = torch.empty_like(column).index_copy(0, rows, column)
    mixed = bool((train.labels.diff() < 0).any())
    known = "hash" in columns or ("label" in columns and mixed)
    for name, own in (("label", train.labels), ("hash", train.hashes)):
        given = columns.pop(name, None)
        if given is not None and not torch.equal(given.long(), own):
            wrong = int((given.long() != own).sum())
            raise InputError(
                f"{path}: {name} differs from {train.name} in {wrong} of {len(own)} rows, so these "
                "scores are in another order, or of another data set."
            )
    return known


def _warn_of_places(beside: Mapping[str, Tensor], scores: Mapping[str, Tensor], path: Path) -> None:
    """Say so where a column that is not looked at counts the rows, and not in their order.

    The ranks of scores do so too, and are no places.
    """
    for name, column in beside.items():
        rows = column.argsort(stable=True)
        counts = torch.equal(column[rows] - column.min(), torch.arange(len(rows)).double())
        steps = [one[rows].diff() for one in scores.values()]
        ranked = any(bool((each >= 0).all() or (each <= 0).all()) for each in steps)
        if counts and bool((rows.diff() < 0).any()) and not ranked:
            say(
                "warning",
                f"{path}: {name} counts the rows in another order than they stand in, and is not "
                "looked at; if it is the place of each image in the data set, and no rank, call it "
                "index.",
            )


def _require_finite(columns: Mapping[str, Tensor], path: Path) -> None:
    for name, column in columns.items():
        if broken := int((~column.isfinite()).sum()):
            raise InputError(
                f"{path}: {broken} of {len(column)} scores in {name} are not finite; the first in "
                f"row {int((~column.isfinite()).nonzero()[0])}."
            )


def _warn_about_order(scores: Mapping[str, Tensor], train: Dataset, path: Path) -> None:
    """Say on the main process that an order is taken on trust, and whether it looks wrong.

    In the right order scores differ between classes, which have other difficulties; in any other
    order that is chance, as one-way analysis of variance on ranks tells (Kruskal and Wallis, 1952).
    """
    say(
        "note",
        f"{path.name} does not say which image each score is of, so the order of {train.name} is "
        "taken on trust; a column `hash` or, where classes are mixed, `label` would be compared.",
    )
    if len(train) < _IMAGES or train.num_classes < _CLASSES:
        return
    chance = min(_chance(column, train.labels) for column in scores.values())
    if chance > _CHANCE / len(scores):
        say(
            "warning",
            f"the scores in {path.name} depend no more on the class than shuffled ones would (p = "
            f"{chance:.2g}): they are likely in another order than {train.name}, so that the core "
            "set would be random.",
        )


def _chance(scores: Tensor, labels: Tensor) -> float:
    """Probability of so large a difference between classes, if the order were random."""
    from sklearn.feature_selection import f_classif  # takes a second

    if len(scores.unique()) == 1:
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(f_classif(ranks(scores)[:, None].numpy(), labels.numpy())[1][0])
