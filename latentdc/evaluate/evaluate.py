"""Score any sets on real test images: one training for each set, student and seed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from tqdm import tqdm

from latentdc.arguments import folder_of, require_a, require_able, require_texts
from latentdc.data.dataset import Dataset, random_images
from latentdc.errors import InputError
from latentdc.evaluate.accuracy import Accuracy, accuracy
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.sets import (
    counts_hash,
    protocol_for,
    require_comparable,
    require_trainable,
)
from latentdc.evaluate.soft_labels import (
    Labelling,
    Stores,
    open_labelling,
    own_label_facts,
    own_labels,
)
from latentdc.evaluate.training import train_student
from latentdc.evaluate.trainings import Done, Training, finished, gathered, setting_hash, write
from latentdc.images import Preprocessing, kind_of
from latentdc.ranks import warn
from latentdc.recipe import BASELINES, Recipe
from latentdc.recipe.fields import nearest
from latentdc.results.result import Result
from latentdc.runtime import this_machine, with_gradients
from latentdc.synthetic.storage import image_bytes
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
    """
    require_texts(rows, "rows")
    given = {
        name: one for name, one in {"train": train, "coreset": coreset}.items() if one is not None
    }
    _require_sets({**sets, **given})
    if isinstance(ipc, str) or not isinstance(ipc, Sequence):
        ipc = Recipe(ipc=ipc).ipc
    elif train is not None and len(ipc) != train.num_classes:
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
        "random": None if train is None else lambda seed: random_images(train, ipc, seed),
        "coreset": None if coreset is None else lambda seed: random_images(coreset, ipc, seed),
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
            warn(f"the row {row!r} is left out: no {lacks} given.")
        else:
            found[row] = candidate
    if not found:
        raise InputError(f"none of the rows {list(rows)} has images to train on.")
    return found


@with_gradients
def evaluate_sets(
    sets: Labelled | Mapping[str, Candidate],
    test: Dataset,
    protocol: EvalProtocol,
    *,
    normalization: Preprocessing,
    ipc: int | None = None,
    train: Dataset | None = None,
    seen: str | Mapping[str, str | None] | None = None,
    trainings: Path | None = None,
    labels: Path | None = None,
    accelerator: Accelerator | None = None,
) -> list[Result]:
    """Train every student of the protocol on each set, once per seed, and test it.

    All sets have the same number of steps: a budget of epochs is one of the first set that is no
    baseline. Trainings are shared out to Accelerate's processes.

    Args:
        sets: a `Dataset`, a `SyntheticSet` or the like, or several by name (see `with_baselines`).
        test: real images; they are used once per training, after its last step.
        protocol: students, seeds and budget.
        normalization: the same for training and test images.
        ipc: images per class that the results stand for; None takes the first set's.
        train: real training images, for teachers without weights alone.
        seen: network that all sets were distilled with, or networks by the names of the sets;
            students of other networks are unseen.
        trainings: folder of finished trainings; those found there are not repeated. None keeps
            none.
        labels: a folder of stored soft labels of one of the sets; None makes them beside the
            trainings.
        accelerator: devices, precision and processes; None makes one.

    Returns:
        A result for each set and student.

    Raises:
        InputError: other classes or another resolution than the test set, or one that a student
            cannot take, or a teacher that cannot be had or is at chance; before any training.
        RunError: a training diverged.
    """
    named: Mapping[str, Candidate]
    named = sets if isinstance(sets, Mapping) else {"distilled": sets}
    if not named:
        raise InputError("there is no set to evaluate; name one or more.")
    fixed = {name: one for name, one in named.items() if not callable(one)}
    _require_sets(fixed if isinstance(sets, Mapping) else {"sets": sets})
    _require_sets({"test": test} if train is None else {"test": test, "train": train})
    require_a(EvalProtocol, protocol, "protocol", "such as load_protocol('quick')")
    require_able("__call__ facts", normalization, "normalization", "a Normalization")
    if accelerator is not None:
        require_a(Accelerator, accelerator, "accelerator", "make one, or leave it out")
    trainings, labels = folder_of(trainings, "trainings"), folder_of(labels, "labels")
    if ipc is not None:
        Recipe(ipc=ipc)
    accelerator = accelerator or Accelerator()
    classes = len(test.class_names)
    first = next((name for name in named if name not in BASELINES), next(iter(named)))
    images = len(drawn(named[first], 0).labels)
    images = classes * ipc if first in BASELINES and ipc is not None else images
    protocol = protocol.resolve(images, classes)
    protocol.check_students(test.images.shape[-1], kind_of(test.images))
    hashes = {name: _hashes(one, protocol, test, name) for name, one in named.items()}
    if labels is not None and protocol.labels.source == "stored":
        _require_stored(labels, named, hashes, protocol)
    labelling = open_labelling(
        protocol,
        test,
        train,
        normalization=normalization,
        rows=trainings,
        given=labels,
        accelerator=accelerator,
    )
    protocol = protocol if labelling is None else labelling.protocol
    setting = setting_hash(test, normalization, accelerator.mixed_precision, labelling)
    plan = {
        name: {
            student: [
                Training(digest, protocol_for(protocol, drawn(one, 0)).hash, setting, student, seed)
                for seed, digest in enumerate(hashes[name])
            ]
            for student in protocol.students
        }
        for name, one in named.items()
    }
    jobs = {
        training: named[name]
        for name in plan
        for seed in range(protocol.seeds)
        for training in (plan[name][student][seed] for student in protocol.students)
    }
    done = _train(jobs, test, protocol, normalization, labelling, trainings, accelerator)
    unseen = _unseen(seen, named, protocol)
    counts = counts_hash(_class_counts(drawn(named[first], 0), classes))
    tested = {
        "test": set_hash(test),
        "data": getattr(test, "name", None),
        "preprocessing": json.loads(json.dumps(normalization.facts())),  # as it is read back
        "machine": asdict(this_machine(accelerator)),
    }
    results = []
    for name, candidate in named.items():
        one = drawn(candidate, 0)
        facts = own_label_facts(one) if labelling is None else labelling.facts(hashes[name], one)
        size = None if name in ("kept", "full") else image_bytes(one)
        for student in protocol.students:
            found = [done[training] for training in plan[name][student]]
            five = tuple(each.top5 for each in found if each.top5 is not None)
            results.append(
                Result(
                    set=name,
                    hashes=hashes[name],
                    ipc=ipc or -(-images // classes),
                    classes=classes,
                    counts=None if first in ("kept", "full") else counts,
                    student=student,
                    unseen=student in unseen[name],
                    accuracies=tuple(each.top1 for each in found),
                    top5=five if len(five) == len(found) else None,
                    protocol=protocol.name,
                    protocol_hash=protocol.hash,
                    settings=json.loads(json.dumps(asdict(protocol))),
                    labels=facts,
                    image_bytes=size,
                    **tested,
                )
            )
    return results


def drawn(candidate: Candidate, seed: int) -> SyntheticSet:
    """The set that a training of this seed sees."""
    one = candidate(seed) if callable(candidate) else candidate
    return one if isinstance(one, SyntheticSet) else SyntheticSet.from_real(one)


def _require_sets(sets: Mapping[str, object]) -> None:
    """Refuse arguments that are no sets."""
    for name, one in sets.items():
        require_able("images labels class_names", one, name, "a Dataset or a SyntheticSet")


def _hashes(
    candidate: Candidate, protocol: EvalProtocol, test: Dataset, name: str
) -> tuple[str, ...]:
    """Hash of the set for each seed, which is checked against the test set."""
    hashes = []
    for seed in range(protocol.seeds if callable(candidate) else 1):
        labelled = drawn(candidate, seed)
        require_comparable(labelled, test, name)
        require_trainable(labelled, protocol, name)
        hashes.append(set_hash(labelled))
    return tuple(hashes) if callable(candidate) else tuple(hashes * protocol.seeds)


def _require_stored(
    labels: Path,
    sets: Mapping[str, Candidate],
    hashes: Mapping[str, Sequence[str]],
    protocol: EvalProtocol,
) -> None:
    known = {
        digest: drawn(sets[name], seed)
        for name, digests in hashes.items()
        for seed, digest in enumerate(digests)
    }
    Stores(protocol, None, Path(), labels).require_given(known)


def _train(
    jobs: Mapping[Training, Candidate],
    test: Dataset,
    protocol: EvalProtocol,
    normalization: Preprocessing,
    labelling: Labelling | None,
    folder: Path | None,
    accelerator: Accelerator,
) -> Done:
    """The accuracy of every training; those that are not finished are shared out and done."""
    done = finished(list(jobs), folder, accelerator)
    missing = [training for training in jobs if training not in done]
    if labelling is not None:
        sets = {training.images: drawn(one, training.seed) for training, one in jobs.items()}
        labelling.prepare(sets, {training.images for training in missing})
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    trained: Done = {}
    silent = not accelerator.is_main_process
    for training in tqdm(mine, "evaluating", unit=" trainings", disable=silent):
        labelled = drawn(jobs[training], training.seed)
        trained[training] = _accuracy(
            training, labelled, test, protocol, normalization, labelling, accelerator
        )
        if folder is not None:
            write(folder, training, trained[training])
    for part in gathered(trained, accelerator):
        done |= part
    return done


def _accuracy(
    training: Training,
    labelled: SyntheticSet,
    test: Dataset,
    protocol: EvalProtocol,
    normalization: Preprocessing,
    labelling: Labelling | None,
    accelerator: Accelerator,
) -> Accuracy:
    """Of the student after its last step."""
    protocol = protocol_for(protocol, labelled)
    soft = (
        own_labels(labelled, protocol.labels, accelerator.device)
        if labelling is None
        else labelling.soft_labels(labelled, training.images)
    )
    network = train_student(
        labelled,
        training.student,
        protocol,
        seed=training.seed,
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


def _unseen(
    seen: str | Mapping[str, str | None] | None, sets: Mapping[str, object], protocol: EvalProtocol
) -> dict[str, set[str]]:
    """By set, students that it was not distilled with at any width; by baseline, that none was."""
    networks = seen if isinstance(seen, Mapping) else dict.fromkeys(sets, seen)
    every = {base_name(network) for network in networks.values()}
    unseen = {}
    for name in sets:
        own = {base_name(networks[name])} if name in networks else every
        unseen[name] = {student for student in protocol.students if base_name(student) not in own}
    return unseen


def base_name(network: str | None) -> str | None:
    """Of a network at any width."""
    return None if network is None else network.partition("@")[0]


def _class_counts(labelled: SyntheticSet, classes: int) -> list[int]:
    return labelled.labels.bincount(minlength=classes).tolist()
