"""`Dataset`: labelled real images, decoded once, or feature vectors; each with a content hash.

`latentdc.data.decode` says what of an image is hashed, so that it has the same hash in every copy
of a data set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentdc import pictures, ranks
from latentdc.arguments import class_names_of, picked_rows, require_a, require_whole
from latentdc.data import convert
from latentdc.draws import choose, generator
from latentdc.errors import InputError, counted
from latentdc.images import Images, Kind, MappedImages, kind_of
from latentdc.io import hash_bytes
from latentdc.modes import in_plain_modes
from latentdc.recipe.fields import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """One split of a labelled set of images, decoded once at one resolution.

    Raises:
        InputError: other types, shapes or ranges than these; the message says how to convert.

    Attributes:
        images: (N, 3, H, W) uint8, in memory or memory-mapped; index them in batches. Or (N, D)
            float16 or float32: feature vectors.
        labels: (N,) int64 indices into `class_names`.
        class_names: in label order, all different.
        hashes: (N,) int64 content hash of each sample: the same image has the same hash in every
            copy of the data set, whatever its path or position.
        name: source and split, for messages.

    Examples:
        >>> import latentdc, numpy
        >>> images = numpy.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype="uint8")
        >>> mine = latentdc.Dataset.from_arrays(images, [0, 0, 1, 1], ["cat", "dog"])
        >>> mine
        Dataset(4 images of 8 px, uint8, 2 classes: 'cat', 'dog', 'arrays')
        >>> tuple(mine.images.shape)
        (4, 3, 8, 8)
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]
    hashes: Tensor
    name: str

    def __post_init__(self) -> None:
        require_a(str, self.name, "name", "source and split, for messages")
        names = class_names_of(self.class_names, self.name)
        object.__setattr__(self, "class_names", names)
        _require_samples(self.images, self.name)
        require_labels(self.labels, len(self.images), self.class_names, self.name)
        hashes = self.hashes
        if not isinstance(hashes, Tensor) or hashes.shape != self.labels.shape:
            raise InputError(f"{self.name} needs one hash for each of its {len(self)} samples.")
        if hashes.dtype != torch.int64:
            raise InputError(f"{self.name}: hashes are int64, got {hashes.dtype}.")

    @classmethod
    def from_arrays(
        cls,
        images: object,
        labels: object,
        class_names: Sequence[str] | None = None,
        *,
        value_range: tuple[float, float] | None = None,
        resolution: int | None = None,
        name: str = "arrays",
    ) -> "Dataset":
        """A data set of arrays, tensors or lists.

        Args:
            images: (N, H, W, 3) or (N, 3, H, W), or grey with 1 in place of 3; uint8 levels, or
                other numbers with a `value_range`.
            labels: (N,) whole numbers, indices into `class_names`.
            class_names: in label order; None names the classes by their numbers.
            value_range: the values of black and white, such as (0, 1); None takes levels alone.
            resolution: height and width in pixels, to which the central square of each image is
                resized; None takes square images as they are.
            name: for messages.

        Raises:
            InputError: a shape that could be either layout, floats without a range or beyond it,
                images that are not square (with `resolution` None), labels that do not fit.
        """
        given = images, labels, class_names
        return cls(**convert.from_arrays(*given, value_range, resolution, name))

    @classmethod
    def from_torch(
        cls,
        dataset: Any,
        class_names: Sequence[str] | None = None,
        *,
        value_range: tuple[float, float] | None = None,
        resolution: int | None = None,
        name: str = "torch data set",
    ) -> "Dataset":
        """All of a map-style data set of torch or torchvision, whose rows are (image, label).

        Args:
            dataset: its images are Pillow's, or (3, H, W) or (H, W, 3) tensors or arrays.
            class_names: in label order; None takes `dataset.classes`, `dataset.wnids` where these
                have several names each, else the labels' numbers.
            value_range: as of `from_arrays`, of images that are no levels.
            resolution: likewise.
            name: for messages.

        Raises:
            InputError: as `from_arrays`, or images that change from one call to the next.
        """
        return cls(**convert.from_torch(dataset, class_names, value_range, resolution, name))

    @classmethod
    def from_datasets(
        cls,
        table: Any,
        *,
        image: str | None = None,
        label: str | None = None,
        resolution: int | None = None,
        name: str = "table",
    ) -> "Dataset":
        """All rows of one split of Hugging Face's `datasets`.

        Args:
            table: a `datasets.Dataset`.
            image: its column of images; None finds it.
            label: its column of labels; None finds it.
            resolution: as of `from_arrays`.
            name: for messages.

        Raises:
            InputError: no such columns, several that fit, rows without a label, images of several
                sizes (with `resolution` None) or that cannot be decoded.
        """
        return cls(**convert.from_datasets(table, image, label, resolution, name))

    @classmethod
    def from_folder(cls, path: str | Path, *, resolution: int | None = None) -> "Dataset":
        """All images of a folder with one folder per class, `path/cats/*.jpg`.

        They are held in memory; `open_splits(Data(source=...))` keeps large ones in the cache.

        Args:
            path: the folder of one split.
            resolution: as of `from_arrays`.

        Raises:
            InputError: no such folder, fewer than two classes, images of several sizes (with
                `resolution` None) or that cannot be decoded.
        """
        return cls(**convert.from_folder(path, resolution))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Dataset({pictures.summary(self.images, self.class_names)}, {show(self.name)})"

    def _repr_html_(self) -> str:
        return pictures.as_html(repr(self), self.images, self.labels, self.class_names)

    def figure(self, *, columns: int = 10, max_classes: int = 10) -> "Figure":
        """The first images of each class, see `latentdc.pictures.figure`."""
        return pictures.figure(
            self.images, self.labels, self.class_names, columns=columns, max_classes=max_classes
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def resolution(self) -> int:
        """Height and width in pixels; of vectors, the number of their values."""
        return int(self.images.shape[-1])

    @property
    def counts(self) -> list[int]:
        """Samples of each class."""
        counts: list[int] = self.labels.bincount(minlength=self.num_classes).tolist()
        return counts

    @in_plain_modes
    def different_counts(self) -> list[int]:
        """Samples of each class, without exact repeats."""
        rows = different_rows(self.hashes, self.labels)
        return self.labels[rows].bincount(minlength=self.num_classes).tolist()

    @property
    def kind(self) -> Kind:
        """What its samples are: images or vectors."""
        return kind_of(self.images)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of its labelled samples, whatever their order; classes have an order."""
        samples = sorted(zip(self.hashes.tolist(), self.labels.tolist(), strict=True))
        return f"{hash_bytes(repr((tuple(self.class_names), samples)).encode()) % 2**64:016x}"

    def members(self, label: int) -> Tensor:
        """Ascending indices (M,) of the samples of one class.

        Raises:
            InputError: it is no label of the data set.
        """
        return self._members[require_whole(label, "label", least=0, most=self.num_classes - 1)]

    @in_plain_modes
    def different(self, label: int) -> Tensor:
        """`members` without exact repeats: of one content the first."""
        members = self._members[label]
        return members[different_rows(self.hashes[members], self.labels[members])]

    @cached_property
    def _members(self) -> tuple[Tensor, ...]:
        members: tuple[Tensor, ...] = self.labels.argsort(stable=True).split(self.counts)
        return members

    @in_plain_modes
    def test_rows(self, share: float) -> Tensor:
        """(N,) whether each sample is one to test on, if a share of each class is.

        Those with the lowest hashes are, so that every copy is divided alike, whatever its paths
        and order. Samples with one content go together; under several labels they count for the
        first of them.

        Raises:
            InputError: a class has fewer than two different samples.
        """
        if not isinstance(share, Real) or not 0 < share < 1:
            raise InputError(f"a test share is in (0, 1), got {show(share)}; for 20 % pass 0.2.")
        contents, place = self.hashes.unique(return_inverse=True)  # ascending
        first = torch.full_like(contents, self.num_classes)
        first = first.scatter_reduce(0, place, self.labels, "amin")
        tested = torch.zeros(len(contents), dtype=torch.bool)
        for label, class_name in enumerate(self.class_names):
            members = (first == label).nonzero().flatten()
            if len(members) < 2:
                raise InputError(
                    f"{self.name} has {len(members)} different samples of class {class_name!r}, "
                    "and training and test need one each; add some, or leave the class out."
                )
            count = min(max(1, round(share * len(members))), len(members) - 1)
            tested[members[:count]] = True
        return tested[place]

    @in_plain_modes
    def split(self, test_share: float) -> tuple["Dataset", "Dataset"]:
        """Training and test part, divided as by `data.test_share`; see `test_rows`."""
        tested = self.test_rows(test_share)
        parts = {"training part": ~tested, "test part": tested}
        train, test = (
            replace(self.select(rows.nonzero().flatten()), name=f"{self.name} ({part})")
            for part, rows in parts.items()
        )
        return train, test

    @in_plain_modes
    def select(self, indices: Tensor) -> "Dataset":
        """The samples at `indices` (M,), in that order; classes keep their labels.

        Memory-mapped images stay where they are: the part is a view of them.

        Raises:
            InputError: they are no indices, or lie beyond the samples.
        """
        images = self.images
        rows = picked_rows(indices, f"{self.name}: indices", len(self))
        some = images.select(rows) if isinstance(images, MappedImages) else images[rows]
        return replace(self, images=some, labels=self.labels[rows], hashes=self.hashes[rows])


@in_plain_modes
def random_images(dataset: Dataset, ipc: int | Sequence[int], seed: int) -> Dataset:
    """Different images of each class (no exact repeats), drawn by (seed, class), ordered by class.

    The row that every score stands beside. `ipc` counts images of every class, or of each one in
    label order.

    Raises:
        InputError: a class has fewer different images.
    """
    counts = [ipc] * dataset.num_classes if isinstance(ipc, int) else ipc
    picked = []
    for label, (name, count) in enumerate(zip(dataset.class_names, counts, strict=True)):
        members, rows = dataset.different(label), len(dataset.members(label))
        if len(members) < count:
            repeats = "" if len(members) == rows else f" ({len(members)} different ones)"
            raise InputError(
                f"{dataset.name} has {counted(rows, 'image')} of class {name!r}{repeats}, "
                f"a random row of ipc {count} needs as many. Choose a smaller ipc, or keep more "
                "images (prune.keep)."
            )
        source = generator(seed, "random images", label)
        picked.append(members[choose(len(members), count, source)])
    return dataset.select(torch.cat(picked))


def different_rows(hashes: Tensor, labels: Tensor) -> Tensor:
    """(M,) ascending rows of different samples: of those with one content and one label the first.

    Where images are counted (budgets, random rows, starts), different ones are. `hashes` and
    `labels` (N,) are as of `Dataset`.
    """
    if len(labels) == 0:
        return torch.arange(0)
    order = hashes.argsort(stable=True)
    order = order[labels[order].argsort(stable=True)]  # by label, then hash, then row
    contents, classes = hashes[order], labels[order]
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = (contents[1:] != contents[:-1]) | (classes[1:] != classes[:-1])
    rows: Tensor = order[new].sort().values
    return rows


def note_repeats(train: Dataset, test: Dataset) -> None:
    """Tell in one line how many images repeat exactly, in training or between the two splits."""
    repeats, again = (len(d) - sum(d.different_counts()) for d in (train, test))
    pairs = torch.unique(torch.stack([train.hashes, train.labels]), dim=1)
    twice = int((pairs[0].unique(return_counts=True)[1] > 1).sum())
    leaked = int(torch.isin(test.hashes, train.hashes).sum())
    found = {
        f"{leaked} of {len(test)} images of {test.name} are in {train.name} too": leaked,
        f"{repeats} of {len(train)} images of {train.name} repeat another of their class": repeats,
        f"{again} of {len(test)} images of {test.name} repeat another of their class": again,
        f"under more than one label: {counted(twice, 'image')} of {train.name}": twice,
    }
    if told := [text for text, count in found.items() if count]:
        ranks.say("note", f"exact repeats: {'; '.join(told)}.")


def _require_samples(samples: Images, name: str) -> None:
    allowed = "a Dataset holds images as uint8 levels of N x 3 x H x H, or vectors of N x D floats"
    if not isinstance(samples, Tensor | MappedImages):
        raise InputError(
            f"{name}: {allowed}, got {type(samples).__name__}; make a tensor with torch.as_tensor."
        )
    shape, dtype = tuple(samples.shape), str(samples.dtype).removeprefix("torch.")
    if len(shape) == 2:
        if samples.dtype not in (torch.float16, torch.float32):
            raise InputError(
                f"{name}: {allowed} (float16 or float32), got {dtype} of shape {shape}; convert "
                "with .float()."
            )
        if shape[1] == 0:
            raise InputError(f"{name}: {allowed}, D at least 1, got {shape}.")
        if isinstance(samples, Tensor) and not bool(samples.isfinite().all()):
            raise InputError(
                f"{name} has values that are not finite (NaN or infinity); mend or leave out such "
                "vectors."
            )
        return
    if samples.dtype != torch.uint8:
        raise InputError(
            f"{name}: {allowed}, got {dtype} of shape {shape}; convert x in [0, 1] with (x * "
            "255).round().to(torch.uint8), x in [-1, 1] with ((x + 1) * "
            "127.5).round().to(torch.uint8), and take normalised x back to [0, 1] first."
        )
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        hint = ""
        if len(shape) == 4 and shape[3] == 3:
            hint = "; put the channels first with x.permute(0, 3, 1, 2)"
        elif len(shape) == 4 and shape[1] == 1:
            hint = "; repeat the grey channel with x.expand(-1, 3, -1, -1)"
        raise InputError(f"{name}: {allowed}, got shape {shape}{hint}.")


def require_labels(labels: Tensor, count: int, names: tuple[str, ...], name: str) -> None:
    """Refuse what is no label of each of `count` samples of these classes."""
    classes = len(names)
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
        got = f"{labels.dtype}, " if isinstance(labels, Tensor) else ""
        raise InputError(
            f"{name}: labels are int64 indices into class_names of shape (N,), got {got}"
            f"{tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__}; "
            "convert with torch.as_tensor(labels).long()."
        )
    if len(labels) != count:
        raise InputError(f"{name} has {count} samples and {len(labels)} labels; give one each.")
    if beyond := int(((labels < 0) | (labels >= classes)).sum()):
        raise InputError(
            f"{name}: {beyond} of its {count} labels lie outside of 0 to {classes - 1}, the "
            f"indices of its {classes} class names; they run from {int(labels.min())} to "
            f"{int(labels.max())}. Leave out rows without a label."
        )
