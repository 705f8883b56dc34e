"""Rows of a table: the sets in question and, beside them, random images, the core set, all data."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from latentdc import arguments, ranks
from latentdc.data.dataset import Dataset, random_images
from latentdc.errors import InputError, nearest
from latentdc.evaluate.setting import require_comparable, require_trainable
from latentdc.recipe import BASELINES
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash

Labelled = SyntheticSet | Dataset
Candidate = Labelled | Callable[[int], Labelled]  # one set, or one for each seed


def with_baselines(
    sets: Mapping[str, Labelled],
    rows: Sequence[str],
    ipc: int | Sequence[int],
    *,
    train: Dataset | None = None,
    coreset: Dataset | None = None,
) -> dict[str, Candidate]:
    """The sets in question and those that stand beside them; what lacks its images is said.

    Args:
        sets: in question, by name.
        rows: in order: `distilled` for all of `sets`; `random` images, drawn anew for each seed;
            random images of the `coreset`; all that pruning `kept`; the `full` training set.
        ipc: images per class of the random rows, or of each class.
        train: all training images.
        coreset: the training images that pruning kept.

    Raises:
        InputError: an unknown row, a set with a baseline's name, or no row that can be scored.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> sets = latentdc.with_baselines({}, ["random", "full"], ipc=1, train=train)
        >>> len(sets["random"](0).labels), len(sets["full"].labels)
        (10, 1437)
    """
    arguments.require_a(Mapping, sets, "sets", "such as {'mine': synthetic}")
    arguments.require_texts(rows, "rows")
    given = {
        name: one for name, one in {"train": train, "coreset": coreset}.items() if one is not None
    }
    require_sets({**sets, **given})
    if isinstance(ipc, str) or not isinstance(ipc, Sequence):
        ipc = arguments.require_whole(ipc, "ipc")
    else:
        ipc = [arguments.require_whole(one, "ipc of a class", least=0) for one in ipc]
        if not any(ipc):
            raise InputError(f"ipc is 0 for all of {len(ipc)} classes; give one of them an image.")
    if not isinstance(ipc, int) and train is not None and len(ipc) != train.num_classes:
        raise InputError(
            f"ipc is that of {len(ipc)} classes, and {train.name} has {train.num_classes}."
        )
    known = ("distilled", *BASELINES)
    for row in rows:
        if row not in known:
            raise InputError(
                f"there is no row {row!r}{nearest(row, known)}; known: {', '.join(known)}."
            )
    if taken := [name for name in sets if name in BASELINES]:
        raise InputError(
            f"a set is called {taken[0]!r}, and so is a row beside it; give the set another name "
            f"than {', '.join(BASELINES)}."
        )
    baselines: dict[str, Candidate | None] = {
        "random": None if train is None else partial(random_images, train, ipc),
        "coreset": None if coreset is None else partial(random_images, coreset, ipc),
        "kept": coreset,
        "full": train,
    }
    found: dict[str, Candidate] = {}
    for row in rows:
        candidate = baselines.get(row)
        if row == "distilled":
            found |= sets
        elif candidate is None:
            lacks = "core set was" if row in ("coreset", "kept") else "real training images were"
            ranks.warn(f"the row {row!r} is left out: no {lacks} given.")
        else:
            found[row] = candidate
    if not found:
        raise InputError(f"none of the rows {list(rows)} has images to train on.")
    return found


def require_sets(sets: Mapping[str, object]) -> None:
    """Refuse arguments that are no sets, and names that are no texts."""
    arguments.require_texts(list(sets), "names of sets")
    for name, one in sets.items():
        arguments.require_able(
            "images labels class_names", one, name, "a Dataset or a SyntheticSet"
        )


def set_of_seed(candidate: Candidate, seed: int) -> SyntheticSet:
    """The set that a training of this seed sees."""
    one = candidate(seed) if callable(candidate) else candidate
    return one if isinstance(one, SyntheticSet) else SyntheticSet.from_real(one)


class Row(NamedTuple):
    """What is trained on under one name, and its hash for each seed."""

    candidate: Candidate
    hashes: tuple[str, ...]

    def of_seed(self, seed: int) -> SyntheticSet:
        """`set_of_seed` of it."""
        return set_of_seed(self.candidate, seed)


def checked_row(name: str, candidate: Candidate, protocol: EvalProtocol, test: Dataset) -> Row:
    """A set with its hash for each seed, checked against protocol and test set."""
    hashes, forms = [], set()
    for seed in range(protocol.seeds if callable(candidate) else 1):
        labelled = set_of_seed(candidate, seed)
        require_comparable(labelled, test, name)
        require_trainable(labelled, protocol, name)
        if seed == 0:
            _tell_of_empty_classes(labelled, name)
        hashes.append(set_hash(labelled))
        forms.add((len(labelled.labels), labelled.weights is None, labelled.soft_labels is None))
    if protocol.together > 1 and len(forms) > 1:
        raise InputError(
            f"{name} has another number of images, or weights or soft labels, for each seed, and "
            f"seeds are trained together ({protocol.together}) on sets that are alike; write "
            "evaluate.together=1."
        )
    return Row(candidate, tuple(hashes if callable(candidate) else hashes * protocol.seeds))


def by_hash(rows: Mapping[str, Row]) -> dict[str, SyntheticSet]:
    """All that is trained on, of every seed, by its hash."""
    return {
        digest: row.of_seed(seed) for row in rows.values() for seed, digest in enumerate(row.hashes)
    }


def _tell_of_empty_classes(one: SyntheticSet, name: str) -> None:
    empty = [repr(of) for of, count in zip(one.class_names, one.counts, strict=True) if not count]
    if empty:
        some = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        ranks.warn(
            f"the {name} set holds nothing of {len(empty)} of {len(one.counts)} classes ({some}), "
            "which no student can learn from it."
        )
