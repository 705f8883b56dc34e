"""What can be scored by name: synthetic sets, and core sets as they are.

Finding imports no torch, so that a wrong name is refused at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import config
from latentdc.errors import InputError
from latentdc.ownership import CORESET
from latentdc.synthetic import folder as layout

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.evaluate.labelled import LabelledImages
    from latentdc.whitening import Whitening


@dataclass(frozen=True)
class Place:
    """Where a set lies.

    Attributes:
        given: what the user called it.
        path: folder of a synthetic set, or file of a core set.
    """

    given: str
    path: Path

    @property
    def run(self) -> Path:
        """The run folder in which it may lie."""
        return self.path.parent if self.path.name in ("synthetic", CORESET) else self.path

    @property
    def recipe(self) -> Path:
        """The recipe that lies with it.

        Raises:
            InputError: none does.
        """
        for candidate in (self.run / layout.RECIPE, self.path / layout.RECIPE):
            if candidate.is_file():
                return candidate
        raise InputError(
            f"no {layout.RECIPE} lies with the set {self.path}; name the recipe whose data and "
            "evaluation apply: --recipe RECIPE."
        )


@dataclass(frozen=True)
class Opened:
    """A set that is ready to be trained on.

    Attributes:
        labelled: its images, labels and class names.
        learned_lr: learning rate that was learned with it.
        whitening: that it was made for.
    """

    labelled: "LabelledImages"
    learned_lr: float | None = None
    whitening: "Whitening | None" = None


def find(given: str) -> Place:
    """The set of a run folder, a set's folder, a core set's file or a Hub data set id.

    A run folder without a synthetic set, which `latentdc prune` leaves, stands for its core set.

    Raises:
        InputError: there is no such set.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return Place(given, path)
    made = layout.is_set(path) or layout.is_set(path / "synthetic")
    if (path / CORESET).is_file() and not made:
        return Place(given, path / CORESET)
    return Place(given, layout.find(given))


def row_names(places: Sequence[Place]) -> list[str]:
    """Names of the sets in a table: `distilled` for a single one, else their short names."""
    if len(places) == 1 and places[0].path.is_dir():
        return ["distilled"]
    short = [place.run.name for place in places]
    return [
        name if short.count(name) == 1 else place.given
        for name, place in zip(short, places, strict=True)
    ]


def open_set(place: Place, train: "Dataset") -> Opened:
    """Its images: stored ones, or those of `train` that a core set names.

    Raises:
        InputError: a damaged set, or a core set of other images.
    """
    if place.path.is_file():
        from latentdc.prune.coreset import Coreset

        return Opened(train.select(Coreset.load(place.path).indices(train)))
    from latentdc.synthetic import SyntheticSet

    synthetic = SyntheticSet.from_pretrained(place.path)
    return Opened(synthetic, synthetic.learned_lr, synthetic.whitening)


def protocol_words(overrides: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of protocols, changes of their keys, and the overrides of the recipe.

    `protocol=rdc-hard` and `protocol=[quick,rdc-hard]` name protocols, `protocol.epochs=30` changes
    a key of each.
    """
    names: list[str] = []
    changes, others = [], []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "protocol":
            names += [name.strip() for name in value.strip("[]").split(",")]
        elif key.startswith("protocol."):
            changes.append(override.removeprefix("protocol."))
        else:
            others.append(override)
    return names, changes, others


def check_names(names: Sequence[str]) -> None:
    """Refuse names of protocols that are empty or stand twice.

    Raises:
        InputError: says what is allowed.
    """
    if "" in names or len(set(names)) < len(names):
        known = sorted(p.stem for p in config.shipped_folder("evaluate/protocols").glob("*.yaml"))
        raise InputError(
            f"protocol= takes different names, such as protocol=[quick,rdc-hard], got {names}; "
            f"latentdc brings {', '.join(known)}."
        )
