"""Score sets: one job per (set, student, seed), spread over Accelerate's processes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch import distributed
from tqdm import tqdm

from latentdc.evaluate.accuracy import accuracy
from latentdc.evaluate.brought import brought_facts, brought_labels
from latentdc.evaluate.labelled import LabelledImages, require_comparable, set_hash
from latentdc.evaluate.mosaic import protocol_for, require_grid
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.rows import Row, read_row, write_row
from latentdc.evaluate.score import Score
from latentdc.evaluate.teaching import Teaching, open_teaching
from latentdc.evaluate.training import train_student
from latentdc.images import Preprocessing

Candidate = LabelledImages | Callable[[int], LabelledImages]  # one set, or one drawn for each seed
PATIENCE = timedelta(days=30)  # between the first process to finish and the last


def evaluate(
    labelled: LabelledImages,
    test: LabelledImages,
    protocol: EvalProtocol,
    *,
    normalization: Preprocessing,
    train: LabelledImages | None = None,
    rows: Path | None = None,
    labels: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Score:
    """Train every student of the protocol on a set, once per seed, and test it on the test set.

    Args:
        labelled: a `Dataset`, a `SyntheticSet` or the like.
        test: real images; they are used once per training, after its last step.
        protocol: students, seeds and budget.
        normalization: the same for training and test images.
        train: real training images, for teachers without weights alone.
        rows: folder of finished trainings; those found there are not repeated. None keeps none.
        labels: a folder of stored soft labels of the set; None makes them beside the rows.
        accelerator: devices, precision and processes; None makes one.

    Raises:
        InputError: other classes or another resolution than the test set, or one that a student
            cannot take, or a teacher that cannot be had or is at chance; before any training.
        RunError: a training diverged.
    """
    return score_sets(
        {"given": labelled},
        test,
        protocol.resolve(len(labelled.labels), len(test.class_names)),
        normalization=normalization,
        train=train,
        rows=rows,
        labels=labels,
        accelerator=accelerator,
    )["given"]


def score_sets(
    candidates: Mapping[str, Candidate],
    test: LabelledImages,
    protocol: EvalProtocol,
    *,
    normalization: Preprocessing,
    train: LabelledImages | None = None,
    rows: Path | None = None,
    labels: Path | None = None,
    accelerator: Accelerator | None = None,
) -> dict[str, Score]:
    """`evaluate` for several named sets, whose jobs are shared out together.

    The protocol has its budget in steps, the same for every set.
    """
    accelerator = accelerator or Accelerator()
    protocol.check_students(test.images.shape[-1])
    teaching = open_teaching(
        protocol,
        test,
        train,
        normalization=normalization,
        rows=rows,
        brought=labels,
        accelerator=accelerator,
    )
    setting = _setting(test, normalization, accelerator.mixed_precision, teaching)
    sets = {name: _hashes(candidates[name], protocol, test, name) for name in candidates}
    seen = {name: protocol_for(protocol, _drawn(candidates[name], 0)) for name in candidates}
    jobs = {
        Row(sets[name][seed], seen[name].hash, setting, student, seed): Job(
            candidates[name], student, seed
        )
        for name in candidates
        for seed in range(protocol.seeds)
        for student in protocol.students
    }
    done = _finished(list(jobs), rows, accelerator)
    missing = [row for row in jobs if row not in done]
    if teaching is not None:
        sets_by_hash = {row.images: jobs[row].labelled() for row in jobs}
        teaching.prepare(sets_by_hash, {row.images for row in missing})
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    trained = {}
    for row in tqdm(mine, "evaluating", unit=" trainings", disable=not accelerator.is_main_process):
        trained[row] = jobs[row].run(row, test, protocol, normalization, teaching, accelerator)
        if rows is not None:
            write_row(rows, row, trained[row])
    for part in _gather(trained, accelerator):
        done |= part
    return {
        name: Score(
            protocol,
            {
                student: tuple(
                    done[Row(digest, seen[name].hash, setting, student, seed)]
                    for seed, digest in enumerate(sets[name])
                )
                for student in protocol.students
            },
            sets[name],
            brought_facts(_drawn(candidates[name], 0))
            if teaching is None
            else teaching.facts(sets[name], _drawn(candidates[name], 0)),
        )
        for name in candidates
    }


@dataclass(frozen=True)
class Job:
    """One training and its test."""

    candidate: Candidate
    student: str
    seed: int

    def labelled(self) -> LabelledImages:
        """The set to train on."""
        return _drawn(self.candidate, self.seed)

    def run(
        self,
        row: Row,
        test: LabelledImages,
        protocol: EvalProtocol,
        normalization: Preprocessing,
        teaching: Teaching | None,
        accelerator: Accelerator,
    ) -> float:
        """Accuracy in [0, 1]."""
        labelled = self.labelled()
        protocol, device = protocol_for(protocol, labelled), accelerator.device
        soft = (
            brought_labels(labelled, protocol.labels, device)
            if teaching is None
            else teaching.soft_labels(labelled, row.images)
        )
        network = train_student(
            labelled.images,
            labelled.labels,
            network=self.student,
            num_classes=len(test.class_names),
            protocol=protocol,
            seed=self.seed,
            normalization=normalization,
            accelerator=accelerator,
            soft=soft,
        )
        return accuracy(
            network,
            test.images,
            test.labels,
            normalization=normalization,
            accelerator=accelerator,
            crop=protocol.test_crop,
        )


def _drawn(candidate: Candidate, seed: int) -> LabelledImages:
    return candidate(seed) if callable(candidate) else candidate


def _hashes(
    candidate: Candidate, protocol: EvalProtocol, test: LabelledImages, name: str
) -> tuple[str, ...]:
    """Hash of the set for each seed, which is checked against the test set."""
    hashes = []
    for seed in range(protocol.seeds if callable(candidate) else 1):
        labelled = _drawn(candidate, seed)
        require_comparable(labelled, test, name)
        require_grid(labelled, protocol.views, name)
        hashes.append(set_hash(labelled))
    return tuple(hashes) if callable(candidate) else tuple(hashes * protocol.seeds)


def _setting(
    test: LabelledImages, normalization: Preprocessing, precision: str, teaching: Teaching | None
) -> str:
    facts = [set_hash(test), normalization.facts(), precision]
    text = json.dumps(facts + ([] if teaching is None else [teaching.hash]))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _finished(wanted: list[Row], folder: Path | None, accelerator: Accelerator) -> dict[Row, float]:
    """Rows that need no training: as the main process finds them, so that all agree."""
    found: dict[Row, float] = {}
    if folder is not None and accelerator.is_main_process:
        for row in wanted:
            value = read_row(folder, row)
            if value is not None:
                found[row] = value
    return _gather(found, accelerator)[0]


def _gather(part: dict[Row, float], accelerator: Accelerator) -> list[dict[Row, float]]:
    """The parts of all processes, waited for however long the slowest one trains."""
    if accelerator.num_processes == 1:
        return [part]
    group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=PATIENCE))
    parts: list[dict[Row, float]] = [{} for _ in range(accelerator.num_processes)]
    distributed.all_gather_object(parts, part, group=group)
    distributed.destroy_process_group(group)
    return parts
