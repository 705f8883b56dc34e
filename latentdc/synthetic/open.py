"""What can be scored by name: synthetic sets, core sets as they are, and sets made elsewhere.

Finding imports no torch, so that a wrong name is refused at once.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc.arguments import refuse_broken_link
from latentdc.errors import InputError
from latentdc.ranks import note
from latentdc.recipe import BASELINES, Data
from latentdc.recipe.data import require_images
from latentdc.run_folder import CHECKPOINTS, CORESET, EXPERTS, METRICS, SET
from latentdc.synthetic import folder as layout
from latentdc.synthetic.foreign.kinds import ForeignKind, foreign_kind
from latentdc.synthetic.foreign.numbers import NAMES, POSITIONS, Numbers

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset
    from latentdc.synthetic.foreign.naming import Read

_TAKEN = ("distilled", *BASELINES)  # names of rows


@dataclass(frozen=True)
class SetSource:
    """Where a set comes from, and how it is read.

    The last three are of a set made elsewhere.
    """

    given: str  # what the user called it
    path: Path  # folder of a synthetic set, file of a core set, or a set made elsewhere
    kind: ForeignKind | None = None
    ipc: int | None = None  # images of each class that are read; None for all
    numbers: Numbers | None = None  # what class numbers are; None asks where that is open

    @property
    def run(self) -> Path:
        """The run folder in which it may lie."""
        return self.path.parent if self.path.name in (SET, CORESET) else self.path

    @property
    def name(self) -> str:
        """The last part of what the user called it, or of the run that it lies in."""
        path = Path(os.path.abspath(Path(self.given).expanduser()))
        return (path.parent if path.name in (SET, CORESET) else path).name

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


def find_set(given: str, ipc: int | None = None, numbers: Numbers | None = None) -> SetSource:
    """The set of a run folder, a set's folder, a core set's file, a Hub id, or one made elsewhere.

    A run folder without a synthetic set, which `latentdc prune` leaves, stands for its core set.

    Raises:
        InputError: there is no such set, it cannot be read, its run has not ended, or `ipc` is
            given for one of our own.
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


def _find(given: str, ipc: int | None, numbers: Numbers | None) -> SetSource:
    if not given:
        raise InputError("a set is named by its folder, file or Hub id, got ''.")
    path = Path(given).expanduser()
    is_set = layout.is_set(path) or layout.is_set(path / "synthetic")
    if not path.exists():
        refuse_broken_link(path, f"the set {given}")
        path = layout.download(given)
        is_set = layout.is_set(path)
    core = path / CORESET
    begun = [name for name in (SET, CHECKPOINTS, METRICS) if (path / name).exists()]
    if core.is_file() and not is_set and begun and not (path / EXPERTS).exists():
        raise InputError(
            f"{given} holds {', '.join(begun)} of a run that has not ended, and no synthetic set; "
            f"start it again, or name its core set: {core}."
        )
    if not is_set and not core.is_file() and (kind := foreign_kind(path)) is not None:
        return SetSource(given, path, kind, ipc, numbers)
    if path.is_dir() and not is_set and not core.is_file():
        raise InputError(
            f"{given} holds no synthetic set: neither a finished run, nor what save_pretrained or "
            "save_to_disk wrote, nor CLASS/*.jpg, nor parquet files (here, in data/ or train/), "
            "nor images_best.pt beside labels_best.pt. Name the folder, or the .pt file, that does."
        )
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise InputError(
            f"{given} is a file of no kind that can be scored: coreset.parquet, or .pt, .pth or "
            ".npz of others; unpack archives to CLASS/*.png, and save .npy files as one .npz."
        )
    if ipc is not None:
        raise InputError(f"--ipc shortens sets of others, and {given} is one of latentdc's own.")
    if path.is_file() or (core.is_file() and not is_set):
        return SetSource(given, path if path.is_file() else core)
    return SetSource(given, layout.find(path))


def row_names(sources: Sequence[SetSource]) -> list[str]:
    """Names of the sets in a table: `distilled` for a single one, else their short names.

    Names that two sets would share, or that other rows have, get as much as the user gave.
    """
    if len(sources) == 1 and sources[0].kind is None and not sources[0].is_core:
        return ["distilled"]
    short = [source.name for source in sources]
    whole = [f"./{p.given}" if p.given.rstrip("/") in _TAKEN else p.given for p in sources]
    return [
        name if short.count(name) == 1 and name not in _TAKEN else given
        for name, given in zip(short, whole, strict=True)
    ]


def open_set(source: SetSource, train: "Dataset", data: Data | None = None) -> "Read":
    """A set: its stored images, or those of `train` that a core set names.

    One made elsewhere is put to the classes of `train`, which `data` opened.

    Returns:
        The set, and how the class numbers of one made elsewhere were read.

    Raises:
        InputError: a damaged set, a core set of other images, or other classes than those of
            `train`.
    """
    from latentdc.synthetic.synthetic_set import SyntheticSet

    if source.kind is not None:
        assert data is not None, "a set made elsewhere is read by the recipe's data"
        return _open_foreign(source, train, data)
    if source.is_core:
        from latentdc.prune.coreset import Coreset

        rows = Coreset.load(source.path).indices(train)
        return SyntheticSet.from_real(train.select(rows)), None
    return SyntheticSet.from_pretrained(source.path), None


def tell_whitening(name: str, made: bool, data: Data) -> None:
    """Say it where a set was made with a whitening and students see it without, or the reverse."""
    if made != data.zca:
        words = ("with", "without") if made else ("without", "with")
        note(
            f"{name} was made {words[0]} whitening, and students see it {words[1]}, as "
            f"data.zca={str(data.zca).lower()} says."
        )


def _open_foreign(source: SetSource, train: "Dataset", data: Data) -> "Read":
    require_images(data, f"reading {source.given}, a set of others,")
    path, ipc, numbers, names = source.path, source.ipc, source.numbers, train.class_names
    try:
        if source.kind != "tensors":
            from latentdc.synthetic.foreign import pictures

            if source.kind == "images":
                split = pictures.folder_pictures(path)
            else:
                split = pictures.table_pictures(path, data.label)
            return pictures.read_pictures(split, names, ipc, numbers, train.resolution)
        from latentdc.data.open import preprocessing
        from latentdc.synthetic.foreign.tensors import read_tensors

        return read_tensors(path, names, ipc, numbers, preprocessing(data, train))
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; read less of it with --ipc.") from error
    except (PermissionError, RecursionError) as error:  # folders in folders without end
        raise InputError(f"cannot read {path}: {error}.") from error
