"""`SyntheticSet`: what every method leaves behind, what others made, and what is scored."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from latentdc import arguments, io, pictures
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Images, Kind, as_floats, as_levels, kind_of
from latentdc.modes import in_plain_modes
from latentdc.preprocessing import Preprocessing, Whitening
from latentdc.recipe import Hub
from latentdc.synthetic import checks, files
from latentdc.synthetic import folder as layout
from latentdc.synthetic.card import Texts, folder_texts, training_text
from latentdc.synthetic.push import push_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20 * 10**9  # levels; more take a quarter of an hour to encode, and are not counted


@dataclass(frozen=True, eq=False, repr=False)
class SyntheticSet:
    """A compressed set of labelled images, and what else students or further work need of it.

    Attributes:
        images: (N, 3, H, W) uint8; or float32, nominally in [-1, 1], where 8 bits do not hold
            them (the pixel prior without clamping). These are scored, never a new decoding. Of a
            set of feature vectors: (N, D) float32, in the units of its data set. Real ones may be
            memory-mapped.
        labels: (N,) int64 indices into `class_names`, in any order.
        class_names: in label order, all different.
        z: (N, ...) float32 latents that the images were decoded from.
        c: (N, ...) float32 class conditions.
        noise: (N, ...) float32 noise of the sampler, one per image.
        soft_labels: (N, C) float32 logits that were made with the images (TESLA, DATM): students
            learn from these in place of `labels`.
        weights: (N,) float32, what each image's loss counts beside the others'; positive. Students
            see them scaled to a mean of 1.
        learned_lr: learning rate of students (SGD) that was learned with the images.
        grid: whole pictures along each side of an image that is a mosaic, 1 for single pictures;
            None where it is not known. Views of mosaics stay inside one picture by it.
        whitening: ZCA of the preprocessing that the images were made for, and are scored with.
        provenance: where the set comes from, in JSON's types: data set, prior, recipe, seed, ...

    Raises:
        InputError: the parts do not fit together.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> context = latentdc.Context(ipc=1, train=train)
        >>> synthetic = latentdc.selection(coreset, None, latentdc.Selection(), context)
        >>> synthetic.save_pretrained("mine")
        >>> latentdc.SyntheticSet.from_pretrained("mine")
        SyntheticSet(10 images of 8 px, uint8, 10 classes: '0', '1', '2', ...)
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]
    z: Tensor | None = None
    c: Tensor | None = None
    noise: Tensor | None = None
    soft_labels: Tensor | None = None
    weights: Tensor | None = None
    learned_lr: float | None = None
    grid: int | None = None
    whitening: Whitening | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = arguments.class_names_of(self.class_names, "a synthetic set")
        object.__setattr__(self, "class_names", names)
        arguments.require_json(self.provenance, "provenance")
        object.__setattr__(self, "images", checks.require_samples(self.images))
        count, shape = len(self.images), tuple(self.images.shape)
        checks.require_labels(self.labels, count, len(names))
        shapes = {"soft_labels": (count, len(names)), "weights": (count,)}
        for name in files.PARTS:
            if (part := getattr(self, name)) is not None:
                part = checks.require_part(part, name, count, shapes.get(name))
                object.__setattr__(self, name, part)
        if self.soft_labels is not None:
            checks.require_logits(self.soft_labels)
        checks.require(
            self.weights is None or float(self.weights.min()) > 0,
            "weights are what the losses of images are multiplied by, all above 0",
        )
        checks.require_rate(self.learned_lr)
        checks.require_grid(self.grid, shape[-1] if len(shape) == 4 else 1)
        if self.whitening is not None:
            checks.require_whitening(self.whitening, torch.Size(shape[1:]).numel())

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        parts = (*files.PARTS, "learned_lr", "grid", "whitening")
        known = {name: getattr(self, name) for name in parts}
        known["grid"] = None if self.grid == 1 else self.grid
        more = [name for name, one in known.items() if one is not None]
        beside = f"; with {', '.join(more)}" if more else ""
        return f"SyntheticSet({pictures.summary(self.images, self.class_names)}{beside})"

    def _repr_html_(self) -> str:
        return pictures.as_html(repr(self), self.images, self.labels, self.class_names)

    def figure(self, *, columns: int = 10, max_classes: int = 10) -> "Figure":
        """The first images of each class, see `latentdc.pictures.figure`."""
        return pictures.figure(
            self.images, self.labels, self.class_names, columns=columns, max_classes=max_classes
        )

    def to_torch(self, preprocessing: Preprocessing | None = None) -> TensorDataset:
        """The set's (image, label) pairs, for a `torch.utils.data.DataLoader`.

        Soft labels, weights and a learned rate are attributes of the set, and not among them.

        Args:
            preprocessing: what networks see of images, such as `latentdc.Normalization()`; None
                gives images in [0, 1], as torchvision's ToTensor does, and vectors as they are.
        """
        images = self.floats().cpu()
        if preprocessing is not None:
            arguments.require_able("__call__", preprocessing, "preprocessing", "a Normalization")
            images = preprocessing(images)
        elif self.kind == "images":
            images = images.add(1).div(2)
        return TensorDataset(images, self.labels.cpu())

    @property
    def counts(self) -> list[int]:
        """Images of each class."""
        counts: list[int] = self.labels.bincount(minlength=len(self.class_names)).tolist()
        return counts

    @property
    def kind(self) -> Kind:
        """What its samples are: images or vectors."""
        return kind_of(self.images)

    def require_images(self, what: str) -> None:
        """Refuse what only images can have.

        Raises:
            InputError: the set holds vectors.
        """
        if self.kind == "vectors":
            raise InputError(f"{what} is for images, and this set holds feature vectors.")

    def levels(self) -> Tensor:
        """(N, 3, H, W) uint8 on the CPU: what PNGs hold; rounded where the images are float."""
        return as_levels(self.images[:].cpu())

    def floats(self) -> Tensor:
        """(N, 3, H, W) float32, nominally in [-1, 1], or vectors: what students are trained on."""
        return as_floats(self.images[:])

    @in_plain_modes
    def as_stored(self) -> "SyntheticSet":
        """The set as `from_pretrained` gives it, with its hash: images in memory, vectors float32.

        Real images may be memory-mapped, and real vectors float16.
        """
        if isinstance(self.images, Tensor) and self.images.dtype != torch.float16:
            return self
        images = self.images[:]
        return replace(self, images=images.float() if images.is_floating_point() else images)

    @in_plain_modes
    def tensors(self) -> dict[str, Tensor]:
        """What PNGs and labels do not hold: latents, soft labels, grid, float images, ..."""
        parts: dict[str, Tensor | None] = {name: getattr(self, name) for name in files.PARTS}
        if self.learned_lr is not None:
            parts["learned_lr"] = torch.tensor(self.learned_lr, dtype=torch.float64)
        if self.grid is not None:
            parts["grid"] = torch.tensor(self.grid)
        if self.images.is_floating_point() and self.kind == "images":
            parts["images"] = self.images[:]
        return {name: part.cpu().contiguous() for name, part in parts.items() if part is not None}

    @in_plain_modes
    def first_of_each(self, ipc: int) -> "SyntheticSet":
        """The first `ipc` images of each class, in their order."""
        return self.rows(torch.tensor(first_of_each(self.labels, ipc)))

    @in_plain_modes
    def rows(self, rows: Tensor) -> "SyntheticSet":
        """The images at `rows` (M,), in that order, with what belongs to them."""
        rows = arguments.picked_rows(rows, "the set: rows", len(self))
        parts = {name: getattr(self, name) for name in files.PARTS}
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            **{name: part[rows] for name, part in parts.items() if part is not None},
        )

    def storage(self, qualities: Iterable[int] = (95, 75)) -> dict[str, int]:
        """Bytes by `part/codec`, without the containers around them.

        The images count once for each codec (choose one): PNG is how they are stored; JPEG is lossy
        and measured by encoding. Images that 8 bits do not hold also have their `images/float32`.
        `z`, `c` and `noise` are what a user of the prior needs in place of images, beside its
        decoder; `zca` is the whitening that students need beside them.

        Args:
            qualities: of JPEG, by Pillow's scale.

        Raises:
            InputError: qualities that are no whole numbers from 0 to 100.
        """
        qualities = qualities.tolist() if hasattr(qualities, "tolist") else qualities
        arguments.require_a(Iterable, qualities, "qualities", "such as [95, 75]")
        numbers = [
            arguments.require_whole(one, "a quality of JPEG", least=0, most=100)
            for one in qualities
        ]
        if self.kind == "vectors":
            sizes = {"vectors/float32": 4 * self.images.shape.numel()}
        else:
            levels = self.levels()
            sizes = {"images/png": self._png_bytes}
            for quality in numbers:
                jpeg = files.in_threads(
                    partial(files.encode, codec="JPEG", quality=quality), levels
                )
                sizes[f"images/jpeg{quality}"] = sum(map(len, jpeg))
        sizes["labels/int64"] = self.labels.nbytes
        if (zca := self.whitening) is not None:
            sizes["zca/float32"] = zca.mean.nbytes + zca.matrix.nbytes
        return sizes | {
            f"{name}/{str(part.dtype).removeprefix('torch.')}": part.nbytes
            for name, part in self.tensors().items()
            if name != "grid"  # says how to look at them, as provenance does
        }

    def image_bytes(self) -> int | None:
        """Bytes of the images as PNG, of floats (images or vectors) as float32.

        A set that was read or written knows them from its file; others are encoded once. None where
        the set is so large that this would take long.
        """
        values = self.images.shape.numel()
        if self.images.is_floating_point():
            return 4 * values
        return None if values > MOST and "_png_bytes" not in vars(self) else self._png_bytes

    @cached_property
    def _png_bytes(self) -> int:
        """Bytes of `levels` as PNG."""
        return files.png_bytes(self.levels() if self.images.is_floating_point() else self.images)

    @classmethod
    def from_real(cls, dataset: Dataset) -> "SyntheticSet":
        """Real images, or vectors, as a set; memory-mapped ones stay on disk.

        A set of these, or of vectors in half precision, has another hash than what is saved of it:
        score its `as_stored()` if it is to be saved with its results.

        Raises:
            InputError: there are none, or it is no Dataset.
        """
        arguments.require_able("images labels class_names", dataset, "dataset", "a Dataset")
        if len(dataset.labels) == 0:
            raise InputError(f"{dataset.name} holds no {kind_of(dataset.images)}.")
        return cls(dataset.images, dataset.labels, dataset.class_names, grid=1)

    @classmethod
    @in_plain_modes
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> "SyntheticSet":
        """The set that `save_pretrained` wrote, bit by bit.

        Args:
            name: its folder, a run folder with `synthetic/` in it, or a data set id of the Hub.
            revision: branch, tag or commit of a Hub id.

        Raises:
            InputError: there is no such set, the Hub cannot be reached, or a file is damaged.
        """
        folder = layout.find(str(arguments.path_of(name, "name")), revision)
        fields, size = files.read_set(folder)
        try:
            one = cls(**fields)
        except InputError as error:
            raise InputError(f"cannot read the set in {folder}: {error}") from error
        vars(one)["_png_bytes"] = size
        return one

    @in_plain_modes
    def save_pretrained(
        self,
        folder: str | Path,
        *,
        recipe: str | None = None,
        results: Mapping[str, object] | None = None,
    ) -> None:
        """Write the set, whole or not at all; an older set at `folder` is replaced if it differs.

        Other files in its folder, as of a clone of a repo, stay.

        Args:
            folder: laid out as a data set repo of the Hub; `datasets.load_dataset` reads it.
            recipe: YAML of the resolved recipe.
            results: as `latentdc.results.result.to_json` gives, which becomes the table
                of the card. Like the recipe, they belong to the folder, not to the set.

        Raises:
            InputError: `folder` holds something other than a synthetic set, or `results` do not fit
                together.
        """
        folder = arguments.path_of(folder, "folder")
        texts = self._texts(recipe, results)
        if not io.is_free(folder) and not layout.is_set(folder):
            raise InputError(
                f"{folder} holds something other than a synthetic set and is left as it is; "
                "choose a new or empty folder."
            )
        vectors, labels = self.kind == "vectors", self.labels.cpu()
        samples = self.floats().cpu() if vectors else self.levels()
        with io.writing(folder) as part:
            if layout.is_set(folder):  # what others put beside it, such as .git, stays
                files.link_folder(folder, part, without=layout.FILES)
            part.mkdir(exist_ok=True)
            files.write_texts(part, texts)
            size = files.write_rows(part, samples, labels, self.class_names)
            files.write_tensors(part, self.tensors(), self.whitening)
            if not vectors:
                pictures.save_grid(part / layout.GRID, samples, labels, self.class_names)
        vars(self)["_png_bytes"] = size

    @in_plain_modes
    def add_results(
        self, folder: str | Path, results: Mapping[str, object], *, recipe: str | None = None
    ) -> None:
        """Put results, and a card with them, into the folder that this set was written to.

        Images are neither encoded nor written again.

        Args:
            folder: of `save_pretrained`.
            results: as there.
            recipe: as there.

        Raises:
            InputError: `folder` holds another set or none, or `results` do not fit together.
        """
        folder = arguments.path_of(folder, "folder")
        texts = self._texts(recipe, results)
        files.require_saved(folder, texts, self.images, self.labels, self.class_names)
        with io.writing(folder) as part:
            files.link_folder(folder, part)
            files.write_texts(part, texts)

    def _texts(self, recipe: str | None, results: Mapping[str, object] | None) -> Texts:
        checks.require(recipe is None or isinstance(recipe, str), "its recipe is text, as YAML")
        if results is not None:
            arguments.require_json(results, "results")
        return folder_texts(
            self.images,
            self.labels,
            self.class_names,
            provenance=self.provenance,
            training=training_text(self.learned_lr, self.whitening, self.weights),
            recipe=recipe,
            results=results,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        recipe: str | None = None,
        results: Mapping[str, object] | None = None,
        private: bool = True,
        license: str | None = None,
        revision: str | None = None,
        tag: str | None = None,
        token: str | None = None,
    ) -> str:
        """Push the set in one commit, as `save_pretrained` writes it; returns its address.

        `push_folder` pushes a folder that has been saved, with its recipe and results. `private`,
        `license`, `revision` and `tag` are as of `latentdc.recipe.Hub`.
        """
        to = Hub(repo=repo_id, private=private, license=license, revision=revision, tag=tag)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, recipe=recipe, results=results)
            return push_folder(Path(folder), to, token=token)


@in_plain_modes
def set_hash(one: SyntheticSet | Dataset) -> str:
    """16 hex digits of what students learn from: images, labels, class names, in their order.

    Images that lie decoded in a file, with the hash of each one's content, are known by these;
    others by their bytes.
    """
    parts = ("soft_labels", "weights") if isinstance(one, SyntheticSet) else ()
    extras = {part: getattr(one, part) for part in parts}
    return files.contents_hash(one.images, one.labels, one.class_names, **extras)


def first_of_each(labels: Tensor, ipc: int) -> list[int]:
    """Ascending rows of the first `ipc` labels of each class."""
    ipc = arguments.require_whole(ipc, "ipc")
    seen: Counter[int] = Counter()
    rows = []
    for row, label in enumerate(labels.tolist()):
        seen[label] += 1
        if seen[label] <= ipc:
            rows.append(row)
    return rows
