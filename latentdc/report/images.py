"""Images of the page: synthetic ones by class, perhaps beside real ones; the ends of rankings."""

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.priors.classes import spoken_name
from latentdc.prune.report import BOTH
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.select import best_first
from latentdc.report.runs import CLASSES
from latentdc.synthetic.files import encode
from latentdc.synthetic.synthetic_set import SyntheticSet

_LOSSLESS = 64  # pixels of a side up to which images are PNG, and shown with their pixels
_CHUNK = 1024  # real images compared at once


@dataclass(frozen=True)
class Tile:
    """An image, and perhaps another beside it.

    Attributes:
        source: data URI.
        about: what it shows, for the caption under the pointer.
        beside: data URI of the other one.
    """

    source: str
    about: str
    beside: str | None = None


@dataclass(frozen=True)
class ClassImages:
    """Images of one class: `title` is its name in words, `name` as the data set has it."""

    title: str
    name: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Gallery:
    """Rows of images under a title.

    Attributes:
        title: above them.
        note: what is to be said of them.
        rows: by class.
        pixels: whether the images are so small that their pixels are shown.
        strip: whether classes stand in one line, smaller.
    """

    title: str
    note: str
    rows: Sequence[ClassImages]
    pixels: bool
    strip: bool = False


def captions(class_names: Sequence[str]) -> dict[str, str]:
    """Each class in words, with its own name where others have the same words, as two cranes."""
    spoken = {name: spoken_name(name) for name in class_names}
    times = Counter(spoken.values())
    return {
        name: word if times[word] == 1 or word == name else f"{word} ({name})"
        for name, word in spoken.items()
    }


class Album:
    """Encodes images as long as there is `room` in the page, bytes of all of them together."""

    def __init__(self, room: int) -> None:
        self.room = room

    def uri(self, image: Tensor) -> str | None:
        """(3, H, W) uint8 -> a PNG, or of large images a JPEG; None where the page is full."""
        small = image.shape[-1] <= _LOSSLESS
        content = encode(image.cpu()) if small else encode(image.cpu(), "JPEG", quality=90)
        text = b64encode(content).decode()
        if len(text) > self.room:
            self.room = 0
            return None
        self.room -= len(text)
        return f"data:image/{'png' if small else 'jpeg'};base64,{text}"


def synthetic_images(
    title: str,
    synthetic: SyntheticSet,
    counts: Sequence[int],
    album: Album,
    real: Dataset | None = None,
    *,
    strip: bool,
) -> Gallery | None:
    """Images by class, beside the nearest real one where real ones of the same size are given.

    `counts` are the images of each class of the whole set. Of vectors there is nothing to show.
    """
    if synthetic.kind != "images":
        return None
    images, labels = synthetic.levels(), synthetic.labels
    fits = real is not None and real.kind == "images" and real.images.shape[1:] == images.shape[1:]
    rows, words = [], captions(synthetic.class_names)
    for label in labels.unique().tolist():
        name = synthetic.class_names[label]
        tiles = []
        for number, row in enumerate((labels == label).nonzero().squeeze(1).tolist(), start=1):
            source = album.uri(images[row])
            if source is None:
                break
            about, beside = f"{words[name]}, {number} of {counts[label]}", None
            if fits and real is not None and name in real.class_names:
                members = real.members(real.class_names.index(name))
                nearest, distance = nearest_real(images[row], real, members)
                beside = album.uri(real.images[nearest : nearest + 1][0])
                about += f"; nearest real image {nearest}, RMS distance {distance:.3f} of levels"
            tiles.append(Tile(source, about, beside))
        if tiles:
            rows.append(ClassImages(words[name], name, tiles))
    if not rows:
        return None
    note = _shown(rows, counts) or ("" if strip else "All images of the set.")
    if any(tile.beside for row in rows for tile in row.tiles):
        note += " Beside each stands the nearest real training image of its class, by pixels."
    return Gallery(title, note, rows, images.shape[-1] <= _LOSSLESS, strip)


def _shown(rows: Sequence[ClassImages], counts: Sequence[int]) -> str:
    """How much of a set its gallery shows, where it is not all."""
    most, classes = max(len(row.tiles) for row in rows), sum(map(bool, counts))
    parts = [f"{len(rows)} of {classes} classes"] if len(rows) < classes else []
    parts += [f"{most} of {max(counts)} images of a class"] if most < max(counts) else []
    return f"Shown are {' and '.join(parts)}." if parts else ""


def nearest_real(image: Tensor, real: Dataset, members: Tensor) -> tuple[int, float]:
    """The row of the real image that differs least, and the root mean square difference of levels.

    Of an image (3, H, W) uint8, among the real images at the rows `members` (M,).
    """
    best = (-1, float("inf"))
    for rows in members.split(_CHUNK):
        gaps = (real.images[rows].float() - image.float()).flatten(1).square().mean(dim=1).sqrt()
        place = int(gaps.argmin())
        if float(gaps[place]) < best[1]:
            best = (int(rows[place]), float(gaps[place]))
    return best[0], best[1] / 255


def ends_of_ranking(rule: str, table: ScoreTable, real: Dataset, album: Album) -> list[Gallery]:
    """The easiest and the hardest five real images of each class; `real` has all scores."""
    fitted = table.fitted(real)
    hardness, column = fitted.hardness(rule), fitted.columns[rule]
    galleries, words = [], captions(real.class_names)
    for order, title in BOTH:
        rows = []
        for label in range(min(real.num_classes, CLASSES)):
            name = real.class_names[label]
            chosen = best_first(hardness, order)(real.members(label), 5)
            found = [(row, album.uri(real.images[row : row + 1][0])) for row in chosen.tolist()]
            tiles = [
                Tile(source, f"{words[name]}, {rule} {float(column[row]):.4g}")
                for row, source in found
                if source is not None
            ]
            if tiles:
                rows.append(ClassImages(words[name], name, tiles))
        note = "From left to right, of each class."
        small = real.resolution <= _LOSSLESS
        galleries.append(Gallery(f"{title} by {rule}", note, rows, small))
    return [gallery for gallery in galleries if gallery.rows]
