"""Score sets: one job per (set, student, seed), spread over Accelerate's processes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from tqdm import tqdm

from latentdc.arguments import folder_of, require_a, require_able
from latentdc.evaluate.accuracy import Accuracy
from latentdc.evaluate.brought import brought_facts, require_own_losses
from latentdc.evaluate.job import Candidate, Job, drawn
from latentdc.evaluate.labelled import LabelledImages, require_comparable, set_hash
from latentdc.evaluate.mosaic import protocol_for, require_grid
from latentdc.evaluate.open_teaching import open_teaching
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.rows import Row, write_row
from latentdc.evaluate.score import Score
from latentdc.evaluate.sharing import Done, finished, gathered
from latentdc.evaluate.stores import Stores
from latentdc.evaluate.teaching import Teaching
from latentdc.images import Preprocessing, kind_of
from latentdc.runtime import with_gradients


def check_evaluation(
    given: Mapping[str, object],
    test: object,
    protocol: object,
    normalization: object,
    train: object,
    accelerator: object,
) -> None:
    """Refuse arguments of another kind.

    Raises:
        InputError: says which.
    """
    sets = {**given, "test": test, **({} if train is None else {"train": train})}
    for name, one in sets.items():
        require_able("images labels class_names", one, name, "a Dataset or a SyntheticSet")
    require_a(EvalProtocol, protocol, "protocol", "such as load_protocol('quick')")
    require_able("__call__ facts", normalization, "normalization", "a Normalization")
    if accelerator is not None:
        require_a(Accelerator, accelerator, "accelerator", "make one, or leave it out")


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
    check_evaluation({"labelled": labelled}, test, protocol, normalization, train, accelerator)
    rows, labels = folder_of(rows, "rows"), folder_of(labels, "labels")
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


@with_gradients
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
    protocol.check_students(test.images.shape[-1], kind_of(test.images))
    sets = {name: _hashes(candidates[name], protocol, test, name) for name in candidates}
    if labels is not None and protocol.labels.source == "stored":
        known = {
            digest: drawn(candidates[name], seed)
            for name, digests in sets.items()
            for seed, digest in enumerate(digests)
        }
        Stores(protocol, None, Path(), labels).require_brought(known)
    teaching = open_teaching(
        protocol,
        test,
        train,
        normalization=normalization,
        rows=rows,
        given=labels,
        accelerator=accelerator,
    )
    if teaching is not None:
        protocol = teaching.protocol
    setting = _setting(test, normalization, accelerator.mixed_precision, teaching)
    seen = {name: protocol_for(protocol, drawn(candidates[name], 0)) for name in candidates}
    jobs = {
        Row(sets[name][seed], seen[name].hash, setting, student, seed): Job(
            candidates[name], student, seed
        )
        for name in candidates
        for seed in range(protocol.seeds)
        for student in protocol.students
    }
    done = finished(list(jobs), rows, accelerator)
    missing = [row for row in jobs if row not in done]
    if teaching is not None:
        sets_by_hash = {row.images: jobs[row].labelled() for row in jobs}
        teaching.prepare(sets_by_hash, {row.images for row in missing})
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    trained: Done = {}
    for row in tqdm(mine, "evaluating", unit=" trainings", disable=not accelerator.is_main_process):
        trained[row] = jobs[row].run(row, test, protocol, normalization, teaching, accelerator)
        if rows is not None:
            write_row(rows, row, trained[row])
    for part in gathered(trained, accelerator):
        done |= part
    return {
        name: _score(
            protocol,
            {
                student: [
                    done[Row(digest, seen[name].hash, setting, student, seed)]
                    for seed, digest in enumerate(sets[name])
                ]
                for student in protocol.students
            },
            sets[name],
            brought_facts(drawn(candidates[name], 0))
            if teaching is None
            else teaching.facts(sets[name], drawn(candidates[name], 0)),
        )
        for name in candidates
    }


def _score(
    protocol: EvalProtocol,
    found: Mapping[str, list[Accuracy]],
    sets: tuple[str, ...],
    labels: Mapping[str, object],
) -> Score:
    """Top-5 of the students for which every seed has it."""
    top5 = {student: [one.top5 for one in values] for student, values in found.items()}
    return Score(
        protocol,
        {student: tuple(one.top1 for one in values) for student, values in found.items()},
        sets,
        labels,
        {
            student: tuple(value for value in values if value is not None)
            for student, values in top5.items()
            if None not in values
        },
    )


def _hashes(
    candidate: Candidate, protocol: EvalProtocol, test: LabelledImages, name: str
) -> tuple[str, ...]:
    """Hash of the set for each seed, which is checked against the test set."""
    hashes = []
    for seed in range(protocol.seeds if callable(candidate) else 1):
        labelled = drawn(candidate, seed)
        require_comparable(labelled, test, name)
        require_grid(labelled, protocol.views, name)
        require_own_losses(labelled, protocol.infobatch, name)
        hashes.append(set_hash(labelled))
    return tuple(hashes) if callable(candidate) else tuple(hashes * protocol.seeds)


def _setting(
    test: LabelledImages, normalization: Preprocessing, precision: str, teaching: Teaching | None
) -> str:
    facts = [set_hash(test), normalization.facts(), precision]
    text = json.dumps(facts + ([] if teaching is None else [teaching.hash]))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
