"""Teachers: loaded and restricted to the set's classes, or trained; and checked on real images.

The commonest failure of soft labels is a teacher whose classes stand in another order than the
set's: its accuracy on real test images is at chance then, and nothing is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from latentdc import runtime
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.training import train_student
from latentdc.images import IMAGENET_MEAN, IMAGENET_STD, Normalization, Preprocessing
from latentdc.io import cached, fingerprint, load_tensors, save_tensors
from latentdc.networks import build_network
from latentdc.prune.scorers import (
    Classifier,
    given_scorer,
    least_accuracy,
    preparation,
    real_accuracy,
)
from latentdc.recipe.labels import Teacher, Views
from latentdc.recipe.networks import pretrained
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash


class Ensemble(nn.Module):
    """The mean logits of several teachers, in eval mode, without gradients, in bfloat16 on GPUs.

    Args:
        teachers: of the same classes in the same order.
        inputs: how each prepares an image, in JSON's types, for the hash.
    """

    def __init__(
        self, teachers: list[Classifier], inputs: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__()
        self._inputs = list(inputs)
        self.teachers = nn.ModuleList(teachers).eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, C) float32 logits."""
        kind = images.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            logits = [teacher(images) for teacher in self.teachers]
        return torch.stack([each.float() for each in logits]).mean(dim=0)

    @property
    def restricted(self) -> bool:
        """Whether one of them has more classes than the set, or has them in another order."""
        return any(teacher.columns is not None for teacher in self.teachers)

    def hash(self) -> str:
        """16 hex digits of the weights, of their inputs and of the classes that they name."""
        return fingerprint({"inputs": self._inputs, "weights": dict(self.state_dict())})


def open_teachers(
    protocol: EvalProtocol,
    test: Dataset,
    train: Dataset | None,
    *,
    normalization: Preprocessing,
    folder: Path | None,
    accelerator: Accelerator,
) -> tuple[Ensemble, float]:
    """The teachers of a protocol, and their accuracy on real images, which is beyond chance.

    Args:
        protocol: with its budget in steps.
        test: real images on which they are tried together.
        train: real images, on which teachers without weights are trained.
        normalization: of the students.
        folder: keeps trained teachers; None trains them each time.
        accelerator: of this process.

    Raises:
        InputError: a teacher that does not fit, lacks a class or is at chance, or a protocol that
            restricts teachers to other classes than the data set's.
    """
    _require_classes(protocol, test)
    teachers, size = protocol.labels.teachers, test.images.shape[-1]
    ensemble = Ensemble(
        [
            open_teacher(
                teacher,
                protocol,
                test,
                train,
                normalization=normalization,
                folder=folder,
                accelerator=accelerator,
                number=number,
            )
            for number, teacher in enumerate(teachers)
        ],
        [_input_facts(teacher, normalization, size) for teacher in teachers],
    )
    return ensemble, _known_accuracy(ensemble, test, protocol, accelerator)


def require_given_teachers(
    protocol: EvalProtocol,
    test: Dataset,
    *,
    normalization: Preprocessing,
    accelerator: Accelerator,
) -> None:
    """Refuse teachers whose weights could not teach, before hours of other work.

    Those with weights are opened, and tried if there are no others. Arguments as of
    `open_teachers`.

    Raises:
        InputError: likewise.
    """
    _require_classes(protocol, test)
    options = {"normalization": normalization, "folder": None, "accelerator": accelerator}
    given = [
        open_teacher(teacher, protocol, test, None, **options)
        for teacher in protocol.labels.teachers
        if teacher.weights is not None
    ]
    if given and len(given) == len(protocol.labels.teachers):
        _known_accuracy(Ensemble(given), test, protocol, accelerator)


def _require_classes(protocol: EvalProtocol, test: Dataset) -> None:
    named, classes = protocol.labels.restricted_to, list(test.class_names)
    if named not in ([], classes):
        raise InputError(
            f"protocol {protocol.name}: labels.restricted_to names {len(named)} classes that are "
            f"not the data set's {len(classes)} in their order; leave it out, and teachers are "
            "restricted to the data set's."
        )


def _known_accuracy(
    ensemble: Ensemble, test: Dataset, protocol: EvalProtocol, accelerator: Accelerator
) -> float:
    """Accuracy on real images, which is beyond chance."""
    accuracy = real_accuracy(ensemble, test.images, test.labels, accelerator.device)
    names = " and ".join(teacher.network for teacher in protocol.labels.teachers)
    require_knowledge(accuracy, test, names)
    return accuracy


def require_knowledge(accuracy: float, test: Dataset, names: str) -> None:
    """Refuse teachers that are at chance on real images.

    Raises:
        InputError: says the accuracy, and what is likely wrong.
    """
    chance, least = least_accuracy(test.labels.bincount().tolist())
    if accuracy < least:
        raise InputError(
            f"the teacher {names} names {accuracy:.2%} of the real test images rightly; chance is "
            f"{chance:.2%}, at least {least:.2%} is needed. Either its classes stand in another "
            "order than the set's (data.classes), or its weights expect other images (mean, std, "
            "resolution), or it was trained here for too few epochs."
        )


def open_teacher(
    teacher: Teacher,
    protocol: EvalProtocol,
    test: Dataset,
    train: Dataset | None,
    *,
    normalization: Preprocessing,
    folder: Path | None,
    accelerator: Accelerator,
    number: int = 0,
    key: str = "labels.teachers",
) -> Classifier:
    """A teacher on the accelerator's device, with logits of the test set's classes in their order.

    Args:
        teacher: which one.
        protocol: whose views a teacher without weights is trained on, unmixed.
        test: real images, for names and size of the classes.
        train: real images to train on; needed for a teacher without weights alone.
        normalization: the students', from which a teacher without its own takes mean and std.
        folder: keeps trained teachers; None trains them each time.
        accelerator: device, precision and processes.
        number: among the teachers, so that two that are trained alike are not the same.
        key: what named it, for messages.

    Raises:
        InputError: weights that do not fit or lack a class, or nothing to train on.
    """
    size = test.images.shape[-1]
    plain = _plain(teacher, normalization)
    if teacher.weights is not None:
        sized = replace(teacher, resolution=teacher.resolution or size)
        return given_scorer(sized, test, plain, key).to(accelerator.device)
    if train is None:
        raise InputError(
            f"the teacher {teacher.network} has no weights and there are no real training images "
            f"to train it on; name its weights in {key}, or give the data."
        )
    seed = -1 - number  # below the students', none of which starts at its teacher's first weights
    return _trained(teacher, protocol, train, plain, folder, accelerator, seed=seed)


def _input_facts(teacher: Teacher, normalization: Preprocessing, size: int) -> dict[str, object]:
    """What decides a teacher's input, given the students' normalisation and the images' size."""
    if pretrained(teacher.weights) is not None:  # null stands for what the weights come with
        mean, std = teacher.mean, teacher.std
    else:
        plain = _plain(teacher, normalization)
        mean, std = plain.mean, plain.std
    return {"mean": mean, "std": std, "resolution": teacher.resolution or size}


def _plain(teacher: Teacher, normalization: Preprocessing) -> Normalization:
    """The teacher's normalisation: its own, or the mean and std of the students' (never ZCA)."""
    facts = normalization.facts()
    mean, std = facts.get("mean", IMAGENET_MEAN), facts.get("std", IMAGENET_STD)
    return Normalization(teacher.mean or mean, teacher.std or std)  # type: ignore[arg-type]


def _trained(
    teacher: Teacher,
    protocol: EvalProtocol,
    train: Dataset,
    plain: Normalization,
    folder: Path | None,
    accelerator: Accelerator,
    *,
    seed: int,
) -> Classifier:
    """Trained on all real images by the loop that trains students, or found from before."""
    views = Views(**{**vars(protocol.views), "mix": None, "cells": None})
    learning = EvalProtocol(
        name="teacher",
        students=[teacher.network],
        epochs=teacher.epochs,
        batch=teacher.batch,
        lr=teacher.lr,
        nesterov=True,
        views=views,
    ).resolve(len(train.labels), len(train.class_names))

    facts = {
        "protocol": learning.hash,
        "network": teacher.network,
        "set": set_hash(train),
        "normalization": plain.facts(),
        "seed": seed,
    }

    def weights() -> dict[str, Tensor]:
        network = train_student(
            SyntheticSet.from_real(train),
            teacher.network,
            learning,
            seed=seed,
            normalization=plain,
            accelerator=accelerator,
        )
        return {key: value.cpu().contiguous() for key, value in network.state_dict().items()}

    def kept_weights() -> dict[str, Tensor]:
        name = "teacher-{}.safetensors"
        return cached(folder, facts, weights, load_tensors, save_tensors, name=name)

    size = train.images.shape[-1]
    network = build_network(teacher.network, num_classes=len(train.class_names), resolution=size)
    network.load_state_dict(runtime.main_first(accelerator, kept_weights))
    return Classifier(network, preparation(size, plain)).to(accelerator.device)
