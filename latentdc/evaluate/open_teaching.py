"""Open the teachers of a protocol: loaded or trained, and checked on real images."""

from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.teacher_check import real_accuracy, require_knowledge
from latentdc.evaluate.teachers import Ensemble, open_teacher, preparation_facts
from latentdc.evaluate.teaching import Teaching
from latentdc.images import Preprocessing
from latentdc.recipe.labels import Teacher
from latentdc.recipe.protocol import EvalProtocol


def open_teaching(
    protocol: EvalProtocol,
    test: Dataset,
    train: Dataset | None,
    *,
    normalization: Preprocessing,
    rows: Path | None,
    brought: Path | None,
    accelerator: Accelerator,
) -> Teaching | None:
    """The teachers of a protocol, loaded or trained, and checked; None where labels are hard.

    Args:
        protocol: with its budget in steps.
        test: real images on which the teachers must beat chance.
        train: real images, on which teachers without weights are trained.
        normalization: of the students.
        rows: folder of finished trainings, beside which labels are stored; None keeps nothing.
        brought: a folder of stored labels.
        accelerator: of this process.

    Raises:
        InputError: a teacher that does not fit, lacks a class or is at chance, or a protocol that
            restricts teachers to other classes than the data set's, or stored labels without
            `rows`.
    """
    if protocol.labels.source == "hard":
        return None
    classes, labels = list(test.class_names), protocol.labels
    _require_classes(protocol, classes)
    if labels.source == "stored" and rows is None:
        raise InputError("stored labels need a folder: give rows=..., they lie beside it.")
    ensemble = Ensemble(
        [
            open_teacher(
                teacher,
                protocol,
                test,
                train,
                normalization=normalization,
                folder=rows,
                accelerator=accelerator,
                number=number,
            )
            for number, teacher in enumerate(labels.teachers)
        ],
        [preparation_facts(each, normalization, test.images.shape[-1]) for each in labels.teachers],
    )
    accuracy = _known_accuracy(ensemble, test, labels.teachers, accelerator)
    restricted = replace(labels, restricted_to=classes if ensemble.restricted else [])
    return Teaching(
        replace(protocol, labels=restricted),
        ensemble,
        accuracy,
        classes=len(classes),
        folder=None if rows is None else rows.parent / "labels",
        brought=brought,
        accelerator=accelerator,
    )


def require_given_teachers(
    protocol: EvalProtocol,
    test: Dataset,
    *,
    normalization: Preprocessing,
    accelerator: Accelerator,
) -> None:
    """Refuse teachers whose weights could not teach, before hours of other work.

    Args:
        protocol: whose teachers with weights are opened, and tried if there are no others.
        test: real images.
        normalization: of the students.
        accelerator: of this process.

    Raises:
        InputError: as `open_teaching`.
    """
    teachers = protocol.labels.teachers
    _require_classes(protocol, list(test.class_names))
    given = [
        open_teacher(
            teacher,
            protocol,
            test,
            None,
            normalization=normalization,
            folder=None,
            accelerator=accelerator,
        )
        for teacher in teachers
        if teacher.weights is not None
    ]
    if given and len(given) == len(teachers):
        _known_accuracy(Ensemble(given), test, teachers, accelerator)


def _require_classes(protocol: EvalProtocol, classes: list[str]) -> None:
    named = protocol.labels.restricted_to
    if named not in ([], classes):
        raise InputError(
            f"protocol {protocol.name}: labels.restricted_to names {len(named)} classes that are "
            f"not the data set's {len(classes)} in their order; leave it out, and teachers are "
            "restricted to the data set's."
        )


def _known_accuracy(
    ensemble: Ensemble, test: Dataset, teachers: list[Teacher], accelerator: Accelerator
) -> float:
    """Accuracy on real images, which is beyond chance."""
    accuracy = real_accuracy(ensemble, test, accelerator.device)
    require_knowledge(accuracy, test, " and ".join(teacher.network for teacher in teachers))
    return accuracy
