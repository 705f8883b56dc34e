"""`ScoreTable`: the scores of a data set's images, kept apart from any choice among them."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from latentdc.arguments import one_form, path_of
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, in_short
from latentdc.io import file_hash, read_table, save_table
from latentdc.modes import in_plain_modes
from latentdc.prune.features import FEATURES, Features, read_features
from latentdc.recipe.rules import RULES

PREDICTED = "predicted"  # column of the class that the scorer says, as it ends
_KIND = "latentdc.scores"  # of parquet file
_ABOUT = ("class_names", "dataset", "facts", "features_hash")


@dataclass(frozen=True, eq=False, repr=False)
class ScoreTable:
    """One column of scores per rule, in the order of the data set.

    Attributes:
        hashes: (N,) int64 content hash of each sample.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order.
        columns: rule to (N,) float32; `predicted` is the class that the scorer says, -1 one that
            is not among `class_names`.
        dataset: source and split.
        facts: how the scores were made, in JSON's types.
        features: of the samples, for rules that choose among features.
        features_hash: of the file of features that the scoring left beside the scores, if any.
    """

    hashes: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    columns: dict[str, Tensor]
    dataset: str
    facts: dict[str, object] = field(default_factory=dict)
    features: Features | None = None
    features_hash: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"ScoreTable({len(self):,} of {self.dataset!r}: {', '.join(self.columns)})"

    def column(self, rule: str) -> Tensor:
        """(N,) scores of a rule."""
        if rule not in self.columns:
            raise InputError(
                f"the scores of {self.dataset} have no column {rule!r}, only "
                f"{', '.join(self.columns)}; score anew with prune.columns=[{rule}]."
            )
        return self.columns[rule]

    def hardness(self, rule: str) -> Tensor:
        """(N,) scores of a rule, turned so that high is hard."""
        column = self.column(rule)
        return column if RULES[rule].hard == "high" else -column

    def with_features(self, features: Features | None) -> "ScoreTable":
        """The table with these features, in its order; unchanged without."""
        return self if features is None else replace(self, features=features)

    @in_plain_modes
    def save(self, path: str | Path) -> None:
        """Write one parquet file without the features, whole or not at all."""
        columns = {"index": torch.arange(len(self)), "hash": self.hashes, "label": self.labels}
        about = {name: getattr(self, name) for name in _ABOUT}
        save_table(path_of(path, "path"), {**columns, **self.columns}, about, _KIND)

    @classmethod
    @in_plain_modes
    def load(cls, path: str | Path) -> "ScoreTable":
        """What `save` wrote.

        Raises:
            InputError: it is not as it was written, or something else.
        """
        path = path_of(path, "path")
        try:
            table = cls.from_arrow(pq.read_table(path), path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read the scores {path}: {in_short(error, None)}") from error
        if table is None:
            raise InputError(f"{path} holds no scores of latentdc; remove it to score anew.")
        return table

    @classmethod
    def from_arrow(cls, table: Any, path: Path) -> "ScoreTable | None":
        """What `save` wrote, with the features beside it; None where something else wrote it.

        Raises:
            InputError: one of them is not as it was written.
        """
        try:
            found = read_table(table, _KIND)
            if found is None:
                return None
            columns, about = found
            del columns["index"]
            hashes, labels = columns.pop("hash"), columns.pop("label")
            about = {name: about[name] for name in _ABOUT}
            about["class_names"] = tuple(map(one_form, about["class_names"]))
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            reason = in_short(error, None)
            raise InputError(f"the scores {path} are damaged ({reason}); score anew.") from error
        scores = cls(hashes=hashes, labels=labels, columns=columns, **about)
        beside = path.with_name(FEATURES)
        if scores.features_hash is None or not beside.is_file():
            return scores
        if file_hash(beside) != scores.features_hash:
            raise InputError(
                f"{beside} is damaged: it is not what was written with {path.name}; delete both to "
                "score anew."
            )
        return scores.with_features(read_features(beside, len(scores)))

    def select(self, rows: Tensor) -> "ScoreTable":
        """The scores at `rows` (M,), in that order."""
        return replace(
            self,
            hashes=self.hashes[rows],
            labels=self.labels[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
            features=None if self.features is None else self.features.select(rows),
            features_hash=None,  # the file has another order
        )

    def fitted(self, dataset: Dataset) -> "ScoreTable":
        """The scores in the order of `dataset`, found by content and class name.

        Raises:
            InputError: samples of the data set have no scores here.
        """
        if self.class_names == dataset.class_names and torch.equal(self.hashes, dataset.hashes):
            if torch.equal(self.labels, dataset.labels):
                return self
        rows: dict[tuple[int, str], list[int]] = defaultdict(list)
        for row in range(len(self) - 1, -1, -1):
            rows[int(self.hashes[row]), self.class_names[int(self.labels[row])]].append(row)
        order, missing = [], 0
        for hash_, label in zip(dataset.hashes.tolist(), dataset.labels.tolist(), strict=True):
            found = rows[hash_, dataset.class_names[label]]
            missing += not found
            order.append(found.pop() if found else 0)
        if missing:
            raise InputError(
                f"{missing} of the {len(dataset)} images of {dataset.name} have no score among "
                f"those of {self.dataset}; they are of another data set, or it has changed."
            )
        table = self.select(torch.tensor(order))
        columns = dict(table.columns)
        if PREDICTED in columns:  # labels of this table become those of the data set's classes
            places = {name: float(label) for label, name in enumerate(dataset.class_names)}
            known = [places.get(name, -1.0) for name in self.class_names]
            columns[PREDICTED] = torch.tensor([*known, -1.0])[columns[PREDICTED].long()]  # -1 stays
        names = dataset.class_names
        return replace(table, labels=dataset.labels, class_names=names, columns=columns)
