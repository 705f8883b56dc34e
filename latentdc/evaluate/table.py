"""The table of a run: the distilled set beside random images, the core set and all images."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import Accelerator

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.baselines import random_images
from latentdc.evaluate.image_bytes import image_bytes
from latentdc.evaluate.job import Candidate, drawn
from latentdc.evaluate.jobs import score_sets
from latentdc.evaluate.labelled import LabelledImages, counts_hash, set_hash
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.score import Score
from latentdc.images import Preprocessing
from latentdc.machine import Machine, this_machine
from latentdc.recipe import BASELINES

VERSION = 2  # of results.json; 1 had no top-5 and no number of classes


@dataclass(frozen=True)
class Table:
    """Scores of several sets under one protocol.

    Attributes:
        scores: by row, such as `distilled` or `random`.
        ipc: images per class of all rows but `full`.
        unseen: students that no distillation used.
        missing: rows that were wanted but could not be scored, and why.
        machine: where it was computed.
        test: hash of the test set; None in tables that were made without it.
        classes: of the data set; None where it is not known.
        sizes: bytes of the images, by row; of a set that is drawn by seed, those of seed 0. Rows of
            all images have none, nor have tables of before they were counted.
        preprocessing: facts of how students see images; None in tables of before they were kept.
        counts: `counts_hash` of the images of each class.
        seen: networks by the sets that were distilled with them, where they are told one by one.
    """

    scores: dict[str, Score]
    ipc: int
    unseen: tuple[str, ...]
    missing: dict[str, str]
    machine: Machine
    test: str | None = None
    classes: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] | None = None
    counts: str | None = None
    seen: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def protocol(self) -> EvalProtocol:
        """The one that all rows share."""
        return next(iter(self.scores.values())).protocol

    def unseen_by(self, row: str) -> tuple[str, ...]:
        """Students that the row's set was not distilled with; of a baseline, that no set was."""
        if row not in self.seen:
            return self.unseen
        return tuple(s for s in self.protocol.students if _base(s) != _base(self.seen[row]))

    def to_json(self) -> dict[str, Any]:
        """The content of results.json; `rows` is flat, for data set cards."""
        protocol = self.protocol
        return {
            "version": VERSION,
            "protocol": protocol.name,
            "protocol_hash": protocol.hash,
            "steps": protocol.steps,
            "seeds": protocol.seeds,
            "ipc": self.ipc,
            "classes": self.classes,
            "rows": [
                {
                    "set": name,
                    "student": student,
                    "mean": score.mean(student),
                    "std": score.std(student),
                    "seeds": protocol.seeds,
                    "accuracies": list(score.accuracies[student]),
                    **_top5(score, student),
                    "sets": list(score.sets),
                    **({"labels": dict(score.labels)} if score.labels else {}),
                    **({"image_bytes": self.sizes[name]} if name in self.sizes else {}),
                }
                for name, score in self.scores.items()
                for student in protocol.students
            ],
            "missing": self.missing,
            "unseen": list(self.unseen),
            "protocol_settings": asdict(protocol),
            "machine": asdict(self.machine),
            "test": self.test,
            "preprocessing": self.preprocessing,
            "counts": self.counts,
        }

    def save(self, path: Path) -> None:
        """Write results.json, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.to_json(), indent=2) + "\n")
        os.replace(part, path)


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
    accelerator = accelerator or Accelerator()
    given = distilled if isinstance(distilled, Mapping) else {"distilled": distilled}
    if taken := [name for name in given if name in BASELINES]:
        raise InputError(
            f"a set is called {taken[0]!r}, and so is a row beside it; give the set another name "
            f"than {', '.join(BASELINES)}."
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
        unseen=tuple(s for s in protocol.students if _base(s) not in map(_base, networks)),
        missing={name: MISSING[name] for name in include if name not in present},
        machine=this_machine(accelerator),
        test=set_hash(test),
        classes=classes,
        sizes=_sizes(present),
        preprocessing=json.loads(json.dumps(normalization.facts())),  # as it is read back
        counts=counts_hash(counts),
        seen=seen if isinstance(seen, Mapping) else {},
    )


MISSING = {
    "distilled": "no distilled set was given",
    "random": "no real training images were given",
    "coreset": "no core set was given",
    "kept": "no core set was given",
    "full": "no real training images were given",
}


def _sizes(present: Mapping[str, Candidate]) -> dict[str, int]:
    """Bytes of the images of small sets; `kept` and `full` are large."""
    found = {
        name: image_bytes(drawn(candidate, 0))
        for name, candidate in present.items()
        if name not in ("kept", "full")
    }
    return {name: size for name, size in found.items() if size is not None}


def _top5(score: Score, student: str) -> dict[str, Any]:
    """Mean and values by seed, where they are known."""
    values = score.top5.get(student)
    return {} if values is None else {"top5": fmean(values), "top5_accuracies": list(values)}


def _base(network: str | None) -> str | None:
    return None if network is None else network.partition("@")[0]
