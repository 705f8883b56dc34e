"""Teachers: loaded and restricted to the set's classes, or trained."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from latentdc import launch
from latentdc.errors import InputError
from latentdc.evaluate.labelled import LabelledImages, set_hash
from latentdc.evaluate.training import train_student
from latentdc.images import IMAGENET_MEAN, IMAGENET_STD, Normalization, Preprocessing
from latentdc.io import load_tensors, save_tensors
from latentdc.networks import build_network
from latentdc.networks.torchvision_names import pretrained
from latentdc.prune.scorers import Classifier, load_scorer, preparation, torchvision_scorer
from latentdc.recipe.labels import Teacher, Views
from latentdc.recipe.protocol import EvalProtocol


class Ensemble(nn.Module):
    """The mean logits of several teachers, in eval mode, without gradients, in bfloat16 on GPUs.

    Args:
        teachers: of the same classes in the same order.
        seen: what each makes of an image before it looks, in JSON's types, for the hash.
    """

    def __init__(
        self, teachers: list[Classifier], seen: Sequence[Mapping[str, object]] = ()
    ) -> None:
        super().__init__()
        self._seen = json.dumps(list(seen), sort_keys=True)
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
        """16 hex digits of the weights, of what they see and of the classes they speak of."""
        digest = hashlib.sha256(self._seen.encode())
        for name, tensor in self.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def open_teacher(
    teacher: Teacher,
    protocol: EvalProtocol,
    test: LabelledImages,
    train: LabelledImages | None,
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
    brought = pretrained(teacher.weights)
    if brought is not None:
        return torchvision_scorer(
            teacher.network,
            brought,
            class_names=test.class_names,
            resolution=teacher.resolution or size,
            mean=teacher.mean,
            std=teacher.std,
        ).to(accelerator.device)
    plain = _plain(teacher, normalization)
    if teacher.weights is not None:
        return load_scorer(
            teacher.network,
            Path(teacher.weights),
            class_names=test.class_names,
            resolution=teacher.resolution or size,
            normalization=plain,
            key=key,
        ).to(accelerator.device)
    if train is None:
        raise InputError(
            f"the teacher {teacher.network} has no weights and there are no real training images "
            f"to train it on; name its weights in {key}, or give the data."
        )
    seed = -1 - number  # below the students', none of which starts at its teacher's first weights
    return _trained(teacher, protocol, train, plain, folder, accelerator, seed=seed)


def preparation_facts(
    teacher: Teacher, normalization: Preprocessing, size: int
) -> dict[str, object]:
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
    train: LabelledImages,
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

    def weights() -> dict[str, Tensor]:
        name = f"teacher-{_key(learning, train, plain, seed)}.safetensors"
        path = None if folder is None else folder / name
        if path is not None and path.is_file():
            try:
                return load_tensors(path)
            except ValueError as error:
                launch.warn(f"{path} is damaged ({error}); the teacher is trained again.")
        network = train_student(
            train,
            teacher.network,
            learning,
            seed=seed,
            normalization=plain,
            accelerator=accelerator,
        )
        state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
        if path is not None and accelerator.is_main_process:
            save_tensors(path, state)
        return state

    size = train.images.shape[-1]
    network = build_network(teacher.network, num_classes=len(train.class_names), resolution=size)
    network.load_state_dict(launch.main_first(accelerator, weights))
    return Classifier(network, preparation(size, plain)).to(accelerator.device)


def _key(learning: EvalProtocol, train: LabelledImages, plain: Normalization, seed: int) -> str:
    facts = [learning.hash, learning.students, set_hash(train), plain.facts(), seed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
