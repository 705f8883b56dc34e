"""`Coreset`: the chosen images, named by their contents."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from latentdc.arguments import class_names_of, path_of, require_a, require_kinds
from latentdc.data.classes import require_members
from latentdc.data.dataset import Dataset, different_rows, require_labels
from latentdc.errors import InputError
from latentdc.io import read_table, save_table
from latentdc.modes import in_plain_modes
from latentdc.recipe.rules import RULES

_KIND = "latentdc.coreset"  # of parquet file
_ABOUT = ("class_names", "rule", "order", "keep", "dataset", "data_hash")


@dataclass(frozen=True, eq=False, repr=False)
class Coreset:
    """A part of a data set that fits any copy of it, in whatever order.

    Attributes:
        hashes: (M,) int64 content hash of each kept sample.
        scores: (M,) float32 by which it was chosen, of rules that choose a set with high for hard;
            zeros where nothing was scored.
        labels: (M,) int64 indices into `class_names`.
        class_names: in label order; none is empty.
        rule: what the score is: `loss`, `random`, or `all` where everything was kept.
        order: `easy`, `hard` or `middle`.
        keep: share of each class.
        dataset: source and split it was made from.
        data_hash: `Dataset.hash` of all training images of the run that keeps it; None elsewhere.
        inputs: hash of what lay at each path that it was chosen by, by its key in a recipe; and the
            `precision` of a network that scored the images.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> coreset.save("coreset.parquet")
        >>> latentdc.Coreset.load("coreset.parquet", train)
        Coreset(142 of 'digits train', 10 classes, by random)
    """

    hashes: Tensor
    scores: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    rule: str
    order: str
    keep: float
    dataset: str
    data_hash: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = dict.fromkeys(("rule", "order", "dataset"), str)
        kinds = {"keep": float | int, "data_hash": str | None, "inputs": Mapping}
        require_kinds(self, "a Coreset", **texts, **kinds)
        name = f"the core set of {self.dataset}"
        object.__setattr__(self, "class_names", class_names_of(self.class_names, name))
        for part, dtype in (("hashes", torch.int64), ("scores", torch.float32)):
            value = getattr(self, part)
            if not isinstance(value, Tensor) or (value.ndim, value.dtype) != (1, dtype):
                shape = getattr(value, "shape", None)
                got = type(value).__name__ if shape is None else f"{value.dtype} of {tuple(shape)}"
                raise InputError(f"{name}: {part} are a tensor (M,) of {dtype}, got {got}.")
            require_labels(self.labels, len(value), self.class_names, name)
        require_members(self.labels, self.class_names, name)

    def __repr__(self) -> str:
        classes = len(self.class_names)
        return f"Coreset({len(self):,} of {self.dataset!r}, {classes:,} classes, by {self.by})"

    @classmethod
    @in_plain_modes
    def whole(cls, train: Dataset, order: str) -> "Coreset":
        """Everything; nothing was scored.

        Raises:
            InputError: `train` is no Dataset.
        """
        require_a(Dataset, train, "train", "such as one of open_splits(Data())")
        return cls(
            hashes=train.hashes,
            scores=torch.zeros(len(train)),
            labels=train.labels,
            class_names=train.class_names,
            rule="all",
            order=order,
            keep=1.0,
            dataset=train.name,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def by(self) -> str:
        """The rule, and the end of its ranking that was kept, where it ranks."""
        ranks = self.rule in RULES and self.rule != "random" and not RULES[self.rule].chooses
        return f"{self.rule}, {self.order}" if ranks else self.rule

    @in_plain_modes
    def different_counts(self) -> list[int]:
        """Images of each class, without exact repeats."""
        rows = different_rows(self.hashes, self.labels)
        return self.labels[rows].bincount(minlength=len(self.class_names)).tolist()

    @in_plain_modes
    def indices(self, dataset: Dataset) -> Tensor:
        """(M,) ascending positions of the core set in `dataset`.

        Classes are matched by name; their order may differ. Where the data set holds an image
        several times with one label, the core set takes as many as it kept, the first ones.

        Raises:
            InputError: other class names, or images that are missing or have another label.
        """
        require_a(Dataset, dataset, "dataset", "such as one of open_splits(Data())")
        names = self.class_names
        if set(names) != set(dataset.class_names):
            other = sorted(set(names) ^ set(dataset.class_names))
            raise InputError(
                f"the core set of {self.dataset} and {dataset.name} have other classes: only one "
                f"of them has {', '.join(other[:10])}."
            )
        label_of = torch.tensor([dataset.class_names.index(name) for name in names])
        wanted = Counter(zip(self.hashes.tolist(), label_of[self.labels].tolist(), strict=True))
        found = []
        samples = zip(dataset.hashes.tolist(), dataset.labels.tolist(), strict=True)
        for position, sample in enumerate(samples):
            if wanted[sample] > 0:
                wanted[sample] -= 1
                found.append(position)
        if missing := len(self) - len(found):
            raise InputError(
                f"{missing} of the {len(self)} images of the core set of {self.dataset} are "
                f"missing from {dataset.name}, or have another label there; prune this data set "
                "anew, or open the one that the core set was made from."
            )
        return torch.tensor(found, dtype=torch.int64)

    @in_plain_modes
    def different_indices(self, dataset: Dataset) -> Tensor:
        """(M,) `indices` of different samples: of exact repeats with one label the first."""
        rows = self.indices(dataset)
        return rows[different_rows(dataset.hashes[rows], dataset.labels[rows])]

    @in_plain_modes
    def save(self, path: str | Path) -> None:
        """Write one parquet file, whole or not at all."""
        columns = {"hash": self.hashes, "score": self.scores, "label": self.labels}
        about = {name: getattr(self, name) for name in _ABOUT}
        about |= {"inputs": dict(self.inputs)} if self.inputs else {}
        save_table(path_of(path, "path"), columns, about, _KIND)

    @classmethod
    @in_plain_modes
    def load(cls, path: str | Path, train: Dataset | None = None) -> "Coreset":
        """Read what `save` wrote.

        Args:
            path: of the file.
            train: a data set that must hold all of its images.

        Raises:
            InputError: no such file, not the file of a core set, or as `indices`.
        """
        path = path_of(path, "path")
        try:
            found = read_table(pq.read_table(path), _KIND)
        except (OSError, pa.ArrowException) as error:
            why = "there is no such file." if isinstance(error, FileNotFoundError) else error
            raise InputError(f"cannot read the core set {path}: {why}") from error
        except ValueError as error:
            raise InputError(f"the core set {path} is damaged ({error}); prune anew.") from error
        if found is None:
            raise InputError(
                f"{path} is no core set, which `latentdc prune` writes as coreset.parquet; a set "
                "of others in parquet files is named by its folder."
            )
        columns, about = found
        coreset = cls(
            hashes=columns["hash"],
            scores=columns["score"].float(),
            labels=columns["label"],
            **about | {"class_names": tuple(about["class_names"])},
        )
        if train is not None:
            coreset.indices(train)
        return coreset
