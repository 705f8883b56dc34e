"""Score any sets on real test images: one training for each set, student and seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator

from latentdc import arguments, io, ranks, runtime, training
from latentdc.data.dataset import Dataset
from latentdc.divided import is_divided, process_facts
from latentdc.errors import InputError, counted
from latentdc.evaluate import accuracy_files, soft_labels
from latentdc.evaluate.baselines import (
    Candidate,
    Labelled,
    Row,
    by_hash,
    checked_row,
    require_sets,
    set_of_seed,
)
from latentdc.evaluate.setting import Accuracy, Setting, accuracy, protocol_for
from latentdc.evaluate.training import train_together
from latentdc.images import kind_of
from latentdc.modes import in_plain_modes
from latentdc.networks.build import forward_work, try_network
from latentdc.preprocessing import Preprocessing
from latentdc.recipe import BASELINES
from latentdc.recipe.labels import OWN
from latentdc.recipe.protocol import EvalProtocol
from latentdc.results.result import Result, Results
from latentdc.synthetic.folder import networks_of
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash

_Key = accuracy_files.TrainingKey
_BYTES: dict[str, int | None] = {}  # of the images of sets, by hash


def evaluate_sets(
    sets: Labelled | Mapping[str, Candidate],
    test: Dataset,
    protocol: EvalProtocol,
    *,
    normalization: Preprocessing,
    train: Dataset | None = None,
    trainings: Path | None = None,
    accelerator: Accelerator | None = None,
    on_step: training.OnStep | None = None,
) -> Results:
    """Train every student of the protocol on each set, once per seed, and test it.

    All sets have the same number of steps: a budget of epochs is one of the first set that is no
    baseline. Trainings are shared out to Accelerate's processes. Students are unseen by a set whose
    provenance names them nowhere: neither as what it was matched, guided or chosen by nor as the
    classifier that its method asked. By baselines they are if they are by all other sets.

    Args:
        sets: a `Dataset`, a `SyntheticSet` or the like, or several by name (see `with_baselines`).
        test: real images; they are used once per training, after its last step.
        protocol: students, seeds and budget.
        normalization: the same for training and test images.
        train: real training images, for teachers without weights alone.
        trainings: folder of finished trainings; those found there are not repeated. None keeps
            none.
        accelerator: devices, precision and processes; None makes one.
        on_step: is told `student`, `seed`, `step` and `loss` of each step of a student's training,
            on the process that trains it; of one that all processes divide, on the main process,
            with the loss of its share. What it raises ends the evaluation, and finished trainings
            stay.

    Returns:
        A result for each set and student.

    Raises:
        InputError: other classes or another resolution than the test set, or one that a student
            cannot take, or a teacher that cannot be had or is at chance; before any training.
        RunError: a training diverged.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> kept = train.select(coreset.indices(train))
        >>> protocol = latentdc.load_protocol("quick", students=["convnet3@8"], seeds=2, steps=5)
        >>> how = latentdc.Normalization()
        >>> (result,) = latentdc.evaluate_sets({"mine": kept}, test, protocol, normalization=how)
        >>> result.student, len(result.accuracies), 0 < result.mean < 1
        ('convnet3@8', 2, True)
    """
    named: Mapping[str, Candidate] = sets if isinstance(sets, Mapping) else {"distilled": sets}
    fixed = {name: one for name, one in named.items() if not callable(one)}
    require_sets(fixed if isinstance(sets, Mapping) else {"sets": sets})
    require_sets({} if train is None else {"train": train})
    arguments.require_a(Dataset, test, "test", "such as the second of open_splits(Data())")
    if on_step is not None:
        arguments.require_able("__call__", on_step, "on_step", "a function")
    arguments.require_a(EvalProtocol, protocol, "protocol", "such as load_protocol('quick')")
    arguments.require_able("__call__ facts", normalization, "normalization", "a Normalization")
    if accelerator is not None:
        arguments.require_a(Accelerator, accelerator, "accelerator", "make one, or leave it out")
    setting = Setting(
        test=test,
        normalization=normalization,
        accelerator=accelerator or Accelerator(),
        train=train,
        folder=arguments.folder_of(trainings, "trainings"),
        on_step=on_step,
    )
    return score_sets(named, protocol, setting)


@in_plain_modes
def score_sets(
    sets: Mapping[str, Candidate],
    protocol: EvalProtocol,
    setting: Setting,
    *,
    ipc: int | None = None,
    labels: Path | None = None,
) -> Results:
    """What `evaluate_sets` does.

    Args:
        sets: by name.
        protocol: students, seeds and budget.
        setting: real images, preprocessing, processes and the folder of finished trainings.
        ipc: images per class that the results stand for; None takes the first set's.
        labels: a folder of stored soft labels of one of the sets; None makes them.
    """
    first, one, images = _first(sets, setting, ipc)
    protocol, rows = _checked(sets, images, protocol, setting, labels)
    test, classes = setting.test, setting.test.num_classes
    labelling = soft_labels.open_labelling(protocol, setting)
    protocol = protocol if labelling is None else labelling.protocol
    accuracies, machines = _accuracies(rows, protocol, setting, labelling, labels)
    unseen = _unseen(rows, protocol.students)
    sizes = runtime.main_alone(setting.accelerator, lambda: _image_bytes(rows))
    shared = _shared_facts(protocol, setting) | {"ipc": ipc or -(-images // classes)}
    if first not in ("kept", "full"):  # which stand beside no set
        unequal = len({*one.counts}) > 1
        shared["counts"] = io.fingerprint(one.counts, digits=8) if unequal else None
    results = Results()
    for name, row in rows.items():
        facts = _label_facts(labelling, row)
        for student in protocol.students:
            top1, top5 = zip(*accuracies[name, student], strict=True)
            results.append(
                Result(
                    set=name,
                    hashes=row.hashes,
                    student=student,
                    unseen=student in unseen[name],
                    accuracies=top1,
                    top5=None if None in top5 else top5,
                    labels=facts,
                    image_bytes=sizes[name],
                    machine=machines[name, student],
                    **shared,
                )
            )
    for student in protocol.students:
        _tell_of_chance([one for one in results if one.student == student], test)
    return results


def check_sets(
    sets: Mapping[str, Candidate],
    protocol: EvalProtocol,
    setting: Setting,
    *,
    ipc: int | None = None,
    labels: Path | None = None,
) -> None:
    """Refuse what `score_sets` would refuse of these, but for teachers, before anything is trained.

    For the later of several calls, before hours of the first.
    """
    _, _, images = _first(sets, setting, ipc)
    _checked(sets, images, protocol, setting, labels)


def _first(
    sets: Mapping[str, Candidate], setting: Setting, ipc: int | None
) -> tuple[str, SyntheticSet, int]:
    """The set that the others stand beside: its name, what the first seed sees, and its images."""
    if not sets:
        raise InputError("there is no set to evaluate; name one or more.")
    arguments.require_several(setting.test.class_names, setting.test.name)
    first = next((name for name in sets if name not in BASELINES), next(iter(sets)))
    one, by_ipc = set_of_seed(sets[first], 0), first in BASELINES and ipc is not None
    return first, one, setting.test.num_classes * (ipc or 0) if by_ipc else len(one.labels)


def _checked(
    sets: Mapping[str, Candidate],
    images: int,
    protocol: EvalProtocol,
    setting: Setting,
    labels: Path | None,
) -> tuple[EvalProtocol, dict[str, Row]]:
    """The protocol with its budget on so many images, and the sets by name, which it can train."""
    protocol = protocol.resolve(images, setting.test.num_classes)
    _check_students(protocol, setting)
    rows = {name: checked_row(name, each, protocol, setting.test) for name, each in sets.items()}
    if labels is not None and protocol.labels.source == "stored":
        soft_labels.fitting_store(labels, protocol, by_hash(rows))
    return protocol, rows


def _check_students(protocol: EvalProtocol, setting: Setting) -> None:
    """Refuse students that cannot be trained on samples like the test set's."""
    test, averaged = setting.test, protocol.ema is not None
    protocol.check_students(test.images.shape[-1], kind_of(test.images))
    for student in protocol.students:
        try_network(student, test.num_classes, test.resolution, trains=True, averaged=averaged)
    if protocol.together > 1 and setting.accelerator.mixed_precision == "fp16":
        raise InputError(
            f"evaluate.together={protocol.together} and fp16 exclude each other, because all seeds "
            "would skip the steps of one whose gradients overflow; take bf16, or together=1."
        )


def _shared_facts(protocol: EvalProtocol, setting: Setting) -> dict[str, Any]:
    """What the results of all sets have in common, by fields of `Result`."""
    settings = {key: value for key, value in asdict(protocol).items() if key != "together"}
    return {
        "classes": len(setting.test.class_names),
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "settings": io.as_read_back(settings),
        "test": set_hash(setting.test),
        "data": setting.test.name,
        "preprocessing": io.as_read_back(setting.normalization.facts()),
    }


def _tell_of_chance(results: Sequence[Result], test: Dataset) -> None:
    """Warn where a student learned no more of any set than to name the largest class."""
    chance = max(test.counts) / len(test)
    if max(one.mean for one in results) <= chance:
        ranks.warn(
            f"{results[0].student} is at chance ({chance:.2%}) in every row after "
            f"{counted(results[0].steps, 'step')}, so that its accuracies compare nothing; give it "
            "more."
        )


class _Job(NamedTuple):
    """A training: of which row, and what for a process of many there is to do.

    `work` are multiply-adds of a step, forward; a `long` training is worth dividing among
    processes, which do it as the training `divided`, another one where it depends on their number.
    """

    row: Row
    work: float
    long: bool
    divided: _Key | None


def _jobs(
    rows: Mapping[str, Row],
    protocol: EvalProtocol,
    setting: Setting,
    teachers: str | None,
) -> tuple[dict[_Key, _Job], dict[tuple[str, str], list[_Key]]]:
    """All trainings, equal ones once, and which of them each set and student has, by seed."""
    shared, processes = setting.hash(teachers, {}), setting.accelerator.num_processes
    jobs: dict[_Key, _Job] = {}
    plan: dict[tuple[str, str], list[_Key]] = {}
    for name, row in rows.items():
        one = row.of_seed(0)
        seen_by = protocol_for(protocol, one).hash
        batch = min(protocol.batch, protocol.seen(len(one.labels)))
        sizes = {"num_classes": len(one.class_names), "resolution": one.images.shape[-1]}
        for seed, digest in enumerate(row.hashes):
            for student in protocol.students:
                key = _Key(digest, seen_by, shared, student, seed)
                long = is_divided(student, **sizes, batch=batch, processes=processes)
                divided = None
                if long and protocol.together == 1 and protocol.infobatch is None:
                    shares = process_facts(student, **sizes, processes=processes)
                    shared_by = shared if not shares else setting.hash(teachers, shares)
                    divided = replace(key, setting=shared_by)
                work = batch * forward_work(student, **sizes)
                jobs[key] = _Job(row, work, long, divided)
                plan.setdefault((name, student), []).append(key)
    return jobs, plan


def _accuracies(
    rows: Mapping[str, Row],
    protocol: EvalProtocol,
    setting: Setting,
    labelling: soft_labels.Labelling | None,
    labels: Path | None,
) -> tuple[dict[tuple[str, str], list[Accuracy]], dict[tuple[str, str], dict[str, Any]]]:
    """Accuracies by set and student, of each seed, and the machine that they were found on."""
    accelerator, teachers = setting.accelerator, None if labelling is None else labelling.hash
    jobs, plan = _jobs(rows, protocol, setting, teachers)
    here = runtime.this_machine(accelerator)
    done = accuracy_files.read_accuracies(list(jobs), setting.folder, accelerator)
    missing = sorted((key for key in jobs if key not in done), key=lambda key: -jobs[key].work)
    by_all = _divided(jobs, missing, protocol, accelerator.num_processes)
    if labelling is not None:
        labelling.prepare(by_hash(rows), {key.images for key in missing}, labels)

    def train(keys: Sequence[_Key], divided: str | None = None) -> list[Accuracy]:
        """Of some seeds of a student after their last step; `divided` is of one seed."""
        sets, seeds = [jobs[key].row.of_seed(key.seed) for key in keys], [key.seed for key in keys]
        own = protocol_for(protocol, sets[0])
        soft = [
            soft_labels.own_labels(one, own.labels, accelerator.device)
            if labelling is None
            else labelling.soft_labels(one, key.images)
            for one, key in zip(sets, keys, strict=True)
        ]
        student = keys[0].student
        networks = train_together(
            sets, student, own, setting, seeds=seeds, soft=soft, divided=divided
        )
        return [accuracy(network, setting, crop=own.test_crop) for network in networks]

    alone = {key: jobs[key].row for key in missing if key not in by_all}
    groups = accuracy_files.groups_of(alone, protocol.together)
    done |= _trained(by_all, groups, setting, train, here)

    def machines() -> dict[tuple[str, str], dict[str, Any]]:
        filed = {row: [by_all.get(key, key) for key in keys] for row, keys in plan.items()}
        return {
            row: accuracy_files.machine_of(keys, setting.folder, here)
            for row, keys in filed.items()
        }

    found = {row: [done[key] for key in keys] for row, keys in plan.items()}
    return found, runtime.main_alone(accelerator, machines)


def _divided(
    jobs: Mapping[_Key, _Job], missing: Sequence[_Key], protocol: EvalProtocol, processes: int
) -> dict[_Key, _Key]:
    """The missing trainings that all processes do together, and as which each is filed.

    Of fewer trainings than processes these are the long ones, unless seeds are trained side by
    side; finished ones count, so that a continued evaluation divides what a whole one does.
    """
    if len(jobs) >= processes:
        return {}
    stacked = {key.student for key, job in jobs.items() if job.long and protocol.together > 1}
    if missing and stacked:
        ranks.note(
            f"evaluate.together={protocol.together} leaves the seeds of "
            f"{', '.join(sorted(stacked))} to one process for each set; with evaluate.together=1 "
            f"all {processes} processes would divide their batches."
        )
    return {key: filed for key in missing if (filed := jobs[key].divided) is not None}


def _trained(
    by_all: Mapping[_Key, _Key],
    groups: Sequence[Sequence[_Key]],
    setting: Setting,
    train: Callable[..., list[Accuracy]],
    here: accuracy_files.Machine,
) -> accuracy_files.Accuracies:
    """Accuracies of trainings that all processes divide, one after another, and of the others.

    Of these the process that is free first takes the next group, the longest of all, so that none
    waits long for the last; an accuracy does not depend on the process that finds it.
    """
    accelerator, folder = setting.accelerator, setting.folder
    total = len(by_all) + sum(map(len, groups))
    bar = ranks.progress(None, "evaluating", total=total, unit=" trainings")
    done: accuracy_files.Accuracies = {}
    for key, filed in by_all.items():

        def train_one(key: _Key = key) -> Accuracy:
            return train([key], f"the student {key.student} with seed {key.seed}")[0]

        find = partial(accuracy_files.cached_accuracy, filed, folder, machine=here)
        done[key] = runtime.together(accelerator, find, train_one)
        bar.update()
    own: accuracy_files.Accuracies = {}
    for index in runtime.shared_out(len(groups), accelerator):
        before = len(by_all) + sum(map(len, groups[:index]))  # others have begun them
        bar.update(before - bar.n)
        own |= accuracy_files.cached_accuracies(groups[index], folder, train, here)
    bar.update(total - bar.n)
    bar.close()
    for part in accuracy_files.gather_accuracies(own, accelerator):
        done |= part
    return done


def _label_facts(labelling: soft_labels.Labelling | None, row: Row) -> dict[str, object]:
    """What the soft labels of a set are, as a result tells it; nothing of hard ones."""
    one = row.of_seed(0)
    if labelling is not None:
        return labelling.facts(row.hashes, one)
    own = one.soft_labels
    return {} if own is None else {"source": OWN, "label_bytes": own.nbytes}


def _image_bytes(rows: Mapping[str, Row]) -> dict[str, int | None]:
    """Bytes of the images of each set, counted once for all protocols; of drawn ones, the first."""
    found: dict[str, int | None] = dict.fromkeys(rows)
    for name, row in rows.items():
        if name not in ("kept", "full"):
            if (digest := row.hashes[0]) not in _BYTES:
                _BYTES[digest] = row.of_seed(0).image_bytes()
            found[name] = _BYTES[digest]
    return found


def _unseen(rows: Mapping[str, Row], students: Sequence[str]) -> dict[str, set[str]]:
    """Students by set that it was not distilled with at any width; of baselines, that none was."""
    own = {
        name: networks_of(row.of_seed(0).provenance)
        for name, row in rows.items()
        if name not in BASELINES
    }
    every = set().union(*own.values())
    return {
        name: {one for one in students if one.partition("@")[0] not in own.get(name, every)}
        for name in rows
    }
