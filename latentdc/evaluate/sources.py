"""What can be scored by name: synthetic sets, core sets as they are, and sets of others.

Finding imports no torch, so that a wrong name is refused at once.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from latentdc import config, plain_yaml
from latentdc.errors import InputError
from latentdc.evaluate.foreign.kinds import Kind, kind_of
from latentdc.evaluate.foreign.numbers import NAMES, POSITIONS, Numbers
from latentdc.recipe import BASELINES, Data
from latentdc.recipe.vectors import require_images
from latentdc.run_folder import CORESET
from latentdc.synthetic import folder as layout

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.evaluate.foreign.foreign_set import Read

_TAKEN = ("distilled", *BASELINES)  # names of rows


@dataclass(frozen=True)
class Place:
    """Where a set lies.

    Attributes:
        given: what the user called it.
        path: folder of a synthetic set, or file of a core set; or a set of others.
        kind: what a set of others is; None for our own.
        ipc: images of each class that are read of a set of others; None for all.
        numbers: whether the class numbers of a set of others are names or positions; None asks
            where the set leaves it open.
    """

    given: str
    path: Path
    kind: Kind | None = None
    ipc: int | None = None
    numbers: Numbers | None = None

    @property
    def run(self) -> Path:
        """The run folder in which it may lie."""
        return self.path.parent if self.path.name in ("synthetic", CORESET) else self.path

    @property
    def name(self) -> str:
        """The last part of what the user called it, or of the run that it lies in."""
        path = Path(os.path.abspath(Path(self.given).expanduser()))
        return (path.parent if path.name in ("synthetic", CORESET) else path).name

    @property
    def is_core(self) -> bool:
        """Whether it is the file of a core set."""
        return self.kind is None and self.path.is_file()

    @property
    def own_recipe(self) -> Path | None:
        """The recipe that lies with it, if one does."""
        candidates = (self.run / layout.RECIPE, self.path / layout.RECIPE)
        return next((path for path in candidates if path.is_file()), None)

    @property
    def recipe(self) -> Path:
        """The recipe that lies with it.

        Raises:
            InputError: none does.
        """
        if (found := self.own_recipe) is not None:
            return found
        raise InputError(
            f"no {layout.RECIPE} lies with the set {self.path}; name the recipe whose data and "
            "evaluation apply: --recipe RECIPE."
        )


def find(given: str, ipc: int | None = None, numbers: Numbers | None = None) -> Place:
    """The set of a run folder, a set's folder, a core set's file, a Hub data set id, or of others.

    A run folder without a synthetic set, which `latentdc prune` leaves, stands for its core set.

    Args:
        given: path or Hub id.
        ipc: images of each class to read of a set of others.
        numbers: `names` or `positions`: what class numbers in a set of others are.

    Raises:
        InputError: there is no such set, it cannot be read, or `ipc` is given for one of our own.
    """
    if numbers not in (None, NAMES, POSITIONS):
        raise InputError(f"numbers is {NAMES!r} or {POSITIONS!r}, got {numbers!r}.")
    try:
        return _find(given, ipc, numbers)
    except (PermissionError, NotADirectoryError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read the set {given!r}: {error}.") from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise InputError(f"there is no set {given[:80]!r}...: {error.strerror}.") from error


def _find(given: str, ipc: int | None, numbers: Numbers | None) -> Place:
    if not given:
        raise InputError("a set is named by its folder, file or Hub id, got ''.")
    path = Path(given).expanduser()
    made = layout.is_set(path) or layout.is_set(path / "synthetic")
    if not path.exists():
        path = layout.download(given)
        made = layout.is_set(path)
    cores = path / CORESET
    if not made and not cores.is_file() and (kind := kind_of(path)) is not None:
        return Place(given, path, kind, ipc, numbers)
    if path.is_dir() and not made and not cores.is_file():
        raise InputError(
            f"{given} holds no synthetic set: it is neither a finished run nor a folder written by "
            "save_pretrained nor a set of others, which has CLASS/*.jpg or train/CLASS/*.jpg, or "
            "parquet files (here, in data/ or in train/), or images_best.pt beside labels_best.pt. "
            "Name the folder, or the .pt file, that does."
        )
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise InputError(
            f"{given} is a file of no kind that can be scored: coreset.parquet, or .pt, .pth or "
            ".npz of others; unpack archives, and save .npy files as one .npz."
        )
    if ipc is not None:
        raise InputError(f"--ipc shortens sets of others, and {given} is one of latentdc's own.")
    if path.is_file() or (cores.is_file() and not made):
        return Place(given, path if path.is_file() else cores)
    return Place(given, layout.find(path))


def row_names(places: Sequence[Place]) -> list[str]:
    """Names of the sets in a table: `distilled` for a single one, else their short names.

    Names that two sets would share, or that other rows have, get as much as the user gave.
    """
    if len(places) == 1 and places[0].kind is None and not places[0].is_core:
        return ["distilled"]
    short = [place.name for place in places]
    return [
        name if short.count(name) == 1 and name not in _TAKEN else _longer(place.given)
        for name, place in zip(short, places, strict=True)
    ]


def _longer(given: str) -> str:
    return f"./{given}" if given.rstrip("/") in _TAKEN else given


def open_set(place: Place, train: "Dataset", data: Data | None = None) -> "Read":
    """Its images: stored ones, or those of `train` that a core set names.

    Args:
        place: where it lies.
        train: real training images.
        data: how they are opened and preprocessed; needed for a set of others alone.

    Returns:
        The set, and how the class numbers of a set of others were read (see `check_numbers`).

    Raises:
        InputError: a damaged set, or a core set of other images.
    """
    if place.kind is not None:
        from latentdc.evaluate.foreign.read import open_foreign

        assert data is not None, "a set of others is read by the recipe's data"
        require_images(data, f"reading {place.given}, a set of others,")
        return open_foreign(place.path, place.kind, train, data, place.ipc, place.numbers)
    from latentdc.synthetic import SyntheticSet

    if place.is_core:
        from latentdc.prune.coreset import Coreset

        rows = Coreset.load(place.path).indices(train)
        return SyntheticSet.from_real(train.select(rows)), None
    return SyntheticSet.from_pretrained(place.path), None


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What a command line names, and its overrides `key=value`; a path that exists is a name."""
    named = ["=" not in word or os.path.exists(os.path.expanduser(word)) for word in words]
    pairs = list(zip(words, named, strict=True))
    return [word for word, name in pairs if name], [word for word, name in pairs if not name]


def protocol_words(overrides: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of protocols, changes of their keys, and the overrides of the recipe.

    `protocol=rdc-hard` and `protocol=[quick,rdc-hard]` name protocols, `protocol.epochs=30` changes
    a key (see `changes_for`).
    """
    names: list[str] = []
    changes, others = [], []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "protocol":
            names += _named(value)
        elif key.startswith("protocol."):
            changes.append(override.removeprefix("protocol."))
        else:
            others.append(override)
    return names, changes, others


def _named(text: str) -> list[str]:
    """One name, or several in brackets, with or without quotes; commas alone divide them too."""
    try:
        tree = plain_yaml.parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"cannot read protocol={text}: {plain_yaml.reason(error)}.") from error
    named = tree.split(",") if isinstance(tree, plain_yaml.Plain) else tree
    named = named if isinstance(named, list) else [named]
    if not all(isinstance(name, str) for name in named):
        raise InputError(f"protocol= takes names, such as protocol=[quick,rdc-hard], got {text}.")
    return [name.strip() for name in named] or [""]


def changes_for(name: str, names: Sequence[str], changes: Sequence[str]) -> list[str]:
    """The changes of one of several protocols: those of all, and those that name it alone.

    `protocol.epochs=30` changes every protocol, `protocol.rdc-soft.labels.temperature=4` that one.
    """
    own = Path(name).stem
    others = {Path(other).stem for other in names} - {own}
    return [c.removeprefix(f"{own}.") for c in changes if c.partition(".")[0] not in others]


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
