"""Score sets beside random images, the core set and all images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator

from latentdc.arguments import folder_of, require_texts
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.baselines import random_images
from latentdc.evaluate.image_bytes import image_bytes
from latentdc.evaluate.job import Candidate, drawn
from latentdc.evaluate.jobs import check_evaluation, score_sets
from latentdc.evaluate.labelled import LabelledImages, counts_hash, set_hash
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.table import Table, base_name
from latentdc.images import Preprocessing
from latentdc.recipe import BASELINES, Recipe
from latentdc.recipe.fields import nearest
from latentdc.runtime import this_machine, with_gradients

MISSING = {
    "distilled": "no distilled set was given",
    "random": "no real training images were given",
    "coreset": "no core set was given",
    "kept": "no core set was given",
    "full": "no real training images were given",
}


@with_gradients
def score_table(
    distilled: LabelledImages | Mapping[str, LabelledImages] | None,
    train: Dataset | None,
    test: Dataset,
    protocol: EvalProtocol,
    *,
    ipc: int,
    counts: Sequence[int] | None = None,
    normalization: Preprocessing,
    coreset: Dataset | None = None,
    include: Sequence[str] = ("distilled", "random", "coreset", "full"),
    seen: str | Mapping[str, str | None] | None = None,
    rows: Path | None = None,
    labels: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Table:
    """Score the distilled set and its baselines with the same number of steps.

    Args:
        distilled: the set in question, or several of one size by the names of their rows; the size
            turns a budget of epochs into steps.
        train: all training images, of which `random` and `full` are made.
        test: real images.
        protocol: students, seeds and budget.
        ipc: images per class of the random rows, which are drawn anew for each seed.
        counts: of each class, where they differ; None takes `ipc` for all.
        normalization: the same for all images.
        coreset: the training images that pruning kept, which `kept` and, in part, `coreset` are.
        include: wanted rows, in the table's order; what lacks its images is listed as missing.
        seen: network that the distillation used, or networks by the names of the sets; students
            of other networks are unseen.
        rows: folder of finished trainings.
        labels: a folder of stored soft labels of one of the sets; None makes them beside the rows.
        accelerator: devices, precision and processes; None makes one.

    Raises:
        InputError: sets that do not fit the test set or have a baseline's name, or no row that can
            be scored.
        RunError: a training diverged.
    """
    sets = distilled if isinstance(distilled, Mapping) else {"distilled": distilled}
    sets = {name: one for name, one in sets.items() if one is not None}
    sets |= {} if coreset is None else {"coreset": coreset}
    check_evaluation(sets, test, protocol, normalization, train, accelerator)
    Recipe(ipc=ipc)
    require_texts(include, "include")
    rows, labels = folder_of(rows, "rows"), folder_of(labels, "labels")
    accelerator = accelerator or Accelerator()
    given = distilled if isinstance(distilled, Mapping) else {"distilled": distilled}
    if taken := [name for name in given if name in BASELINES]:
        raise InputError(
            f"a set is called {taken[0]!r}, and so is a row beside it; give the set another name "
            f"than {', '.join(BASELINES)}."
        )
    known = ("distilled", *BASELINES)
    for name in include:
        if name not in known:
            raise InputError(
                f"there is no row {name!r}{nearest(name, known)}; known: {', '.join(known)}."
            )
    if counts is not None and len(counts) != len(test.class_names):
        raise InputError(
            f"counts has the images of {len(counts)} classes, and the test set has "
            f"{len(test.class_names)}."
        )
    include = [row for name in include for row in (given if name == "distilled" else [name])]
    few = ipc if counts is None else counts
    candidates: dict[str, Candidate | None] = {
        **given,
        "random": None if train is None else lambda seed: random_images(train, few, seed),
        "coreset": None if coreset is None else lambda seed: random_images(coreset, few, seed),
        "kept": coreset,
        "full": train,
    }
    wanted = {name: candidates[name] for name in include}
    present = {name: candidate for name, candidate in wanted.items() if candidate is not None}
    if not present:
        raise InputError(f"none of the rows {list(include)} has images to train on.")
    sizes = [len(one.labels) for one in given.values() if one is not None]
    classes = len(test.class_names)
    networks = seen.values() if isinstance(seen, Mapping) else [seen]
    scores = score_sets(
        present,
        test,
        protocol.resolve(sizes[0] if sizes else classes * ipc, classes),
        normalization=normalization,
        train=train,
        rows=rows,
        labels=labels,
        accelerator=accelerator,
    )
    return Table(
        scores=scores,
        ipc=ipc,
        unseen=tuple(s for s in protocol.students if base_name(s) not in map(base_name, networks)),
        missing={name: MISSING[name] for name in include if name not in present},
        machine=this_machine(accelerator),
        test=set_hash(test),
        classes=classes,
        sizes=_sizes(present),
        preprocessing=json.loads(json.dumps(normalization.facts())),  # as it is read back
        counts=counts_hash(counts),
        seen=seen if isinstance(seen, Mapping) else {},
    )


def _sizes(present: Mapping[str, Candidate]) -> dict[str, int]:
    """Bytes of the images of small sets; `kept` and `full` are large."""
    found = {
        name: image_bytes(drawn(candidate, 0))
        for name, candidate in present.items()
        if name not in ("kept", "full")
    }
    return {name: size for name, size in found.items() if size is not None}
