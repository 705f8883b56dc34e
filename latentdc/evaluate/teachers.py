"""Teachers: loaded and restricted to the set's classes, or trained; and checked on real images.

The commonest failure of soft labels is a teacher whose classes stand in another order than the
set's: its accuracy on real test images is at chance then, and nothing is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from latentdc import io, modes, runtime
from latentdc.data.classes import require_same_classes
from latentdc.data.dataset import Dataset
from latentdc.divided import is_divided, process_facts
from latentdc.errors import InputError
from latentdc.evaluate.setting import Setting
from latentdc.evaluate.training import train_student
from latentdc.networks import build_network
from latentdc.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Normalization, Preprocessing
from latentdc.prune import scorers
from latentdc.recipe.labels import Teacher, Views
from latentdc.recipe.networks import pretrained
from latentdc.recipe.own import is_own
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash


class Ensemble(nn.Module):
    """The mean logits of several teachers, in eval mode, without gradients, in bfloat16 on GPUs.

    All have the same classes in the same order; `inputs` say what decides the logits of each beside
    its weights, such as how it prepares an image, for the hash.
    """

    def __init__(
        self, teachers: list[scorers.Classifier], inputs: Sequence[Mapping[str, object]] = ()
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
        return io.fingerprint({"inputs": self._inputs, "weights": dict(self.state_dict())})


def open_teachers(protocol: EvalProtocol, setting: Setting) -> tuple[Ensemble, float]:
    """The teachers of a protocol, and their accuracy on real images, which is beyond chance.

    The protocol has its budget in steps. Teachers that do not fit, lack a class or are at chance
    are refused, and a protocol that restricts them to other classes than the data set's.
    """
    _require_classes(protocol, setting.test)
    teachers = protocol.labels.teachers
    ensemble = Ensemble(
        [
            open_teacher(teacher, protocol, setting, number=number)
            for number, teacher in enumerate(teachers)
        ],
        [_input_facts(teacher, setting) for teacher in teachers],
    )
    return ensemble, known_accuracy(ensemble, setting, _names(teachers))


def require_given_teachers(protocol: EvalProtocol, setting: Setting) -> None:
    """Refuse teachers whose weights could not teach, before hours of other work.

    Those with weights are opened, and tried if there are no others; else as `open_teachers`.
    """
    _require_classes(protocol, setting.test)
    teachers = protocol.labels.teachers
    given = [
        open_teacher(teacher, protocol, setting)
        for teacher in teachers
        if teacher.weights is not None
    ]
    if given and len(given) == len(teachers):
        known_accuracy(Ensemble(given), setting, _names(teachers))


def _require_classes(protocol: EvalProtocol, test: Dataset) -> None:
    named, classes = protocol.labels.restricted_to, list(test.class_names)
    if named not in ([], classes):
        raise InputError(
            f"protocol {protocol.name}: labels.restricted_to names {len(named)} classes that are "
            f"not the data set's {len(classes)} in their order; leave it out, and teachers are "
            "restricted to the data set's."
        )


def _names(teachers: Sequence[Teacher]) -> str:
    return " and ".join(teacher.network for teacher in teachers)


@torch.no_grad()
def known_accuracy(network: nn.Module, setting: Setting, name: str) -> float:
    """Accuracy of a network on the real test images; one that is at chance is refused.

    It maps (B, 3, H, W) images in [-1, 1] to (B, C) logits, on the accelerator's device.
    """
    test = setting.test
    accuracy = scorers.real_accuracy(network, test.images, test.labels, setting.accelerator.device)
    chance, least = scorers.least_accuracy(test.counts)
    if accuracy < least:
        raise InputError(
            f"the teacher {name} names {accuracy:.2%} of the real test images rightly; chance is "
            f"{chance:.2%}, at least {least:.2%} is needed. Either its classes stand in another "
            "order than the set's (data.classes), or its weights expect other images (mean, std, "
            "resolution), or it was trained here for too few epochs."
        )
    return accuracy


def open_teacher(
    teacher: Teacher,
    protocol: EvalProtocol,
    setting: Setting,
    *,
    number: int = 0,
    key: str = "labels.teachers",
) -> scorers.Classifier:
    """A teacher on the accelerator's device, with logits of the test set's classes in their order.

    Without a mean and std of its own it takes those of the setting. One without weights is trained
    on the setting's training images, in the protocol's views, unmixed.

    Args:
        teacher: which one.
        protocol: that it is of.
        setting: of the evaluation.
        number: among the teachers, so that two that are trained alike are not the same.
        key: what named it, for messages.
    """
    plain = _plain(teacher, setting.normalization)
    if teacher.weights is not None:
        sized = replace(teacher, resolution=teacher.resolution or setting.test.images.shape[-1])
        classifier = scorers.given_scorer(sized, setting.test, plain, key)
    elif setting.train is None:
        raise InputError(
            f"the teacher {teacher.network} has no weights and there are no real training images "
            f"to train it on; name its weights in {key}, or give the data."
        )
    else:
        require_same_classes(setting.train.class_names, setting.test.class_names, "training")
        # below the students' seeds, none of which starts at its teacher's first weights
        classifier = _trained(teacher, protocol, setting, setting.train, plain, seed=-1 - number)
    return classifier.to(setting.accelerator.device).eval()


def _input_facts(teacher: Teacher, setting: Setting) -> dict[str, object]:
    """What decides a teacher's logits beside its weights: its input, and code of the user's own."""
    mean, std = teacher.mean, teacher.std  # null stands for what published weights come with
    if pretrained(teacher.weights) is None:
        plain = _plain(teacher, setting.normalization)
        mean, std = plain.mean, plain.std
    resolution = teacher.resolution or setting.test.images.shape[-1]
    code = {"network": teacher.network} if is_own(teacher.network) else {}
    return {"mean": mean, "std": std, "resolution": resolution, **code}


def _plain(teacher: Teacher, normalization: Preprocessing) -> Normalization:
    """The teacher's normalisation: its own, or the mean and std of the students' (never ZCA)."""
    facts = normalization.facts()
    mean, std = facts.get("mean", IMAGENET_MEAN), facts.get("std", IMAGENET_STD)
    return Normalization(teacher.mean or mean, teacher.std or std)  # type: ignore[arg-type]


def _trained(
    teacher: Teacher,
    protocol: EvalProtocol,
    setting: Setting,
    train: Dataset,
    plain: Normalization,
    *,
    seed: int,
) -> scorers.Classifier:
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

    facts: dict[str, object] = {
        "protocol": learning.hash,
        "network": teacher.network,
        "set": set_hash(train),
        "normalization": plain.facts(),
        "seed": seed,
    }
    if (precision := modes.precision_of(setting.accelerator)) != "no":
        facts["precision"] = precision
    size, batch = train.images.shape[-1], min(learning.batch, len(train.labels))
    sizes = {"num_classes": len(train.class_names), "resolution": size}
    divided, processes = None, setting.accelerator.num_processes
    if is_divided(teacher.network, **sizes, batch=batch, processes=processes):
        divided = f"the teacher {teacher.network}"
        facts |= process_facts(teacher.network, **sizes, processes=processes)

    def weights() -> dict[str, Tensor]:
        network = train_student(
            SyntheticSet.from_real(train),
            teacher.network,
            learning,
            replace(setting, normalization=plain, on_step=None),
            seed=seed,
            divided=divided,
        )
        return {key: value.cpu().contiguous() for key, value in network.state_dict().items()}

    def kept(make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        name = "teacher-{}.safetensors"
        return io.cached(setting.folder, facts, make, io.load_tensors, io.save_tensors, name=name)

    network = build_network(teacher.network, **sizes)
    if divided is None:
        network.load_state_dict(runtime.main_first(setting.accelerator, lambda: kept(weights)))
    else:
        network.load_state_dict(runtime.together(setting.accelerator, kept, weights))
    return scorers.Classifier(network, scorers.preparation(size, plain))
