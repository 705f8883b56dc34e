"""`EvalProtocol`: how students are trained and scored, with a name and a hash.

Imports no torch, so that a recipe's protocol is checked within a blink.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from latentdc import config
from latentdc.errors import InputError
from latentdc.networks.names import check_network, parse_network
from latentdc.recipe import check_augment

FOLDER = "evaluate/protocols"  # of the protocols that the package brings
_LOOP = 1  # raised when the same protocol would train another student


@dataclass(frozen=True, kw_only=True)
class EvalProtocol:
    """A budget, an optimiser and a pool of students.

    Attributes:
        name: printed beside every number.
        students: networks to train, such as `convnet3@32`.
        seeds: independent trainings per student, with the seeds 0, 1, ...
        steps: training steps; the budget, or null where `epochs` gives it.
        epochs: passes over the training images; null where `steps` is given.
        batch: images per step; a smaller set is one full batch per epoch.
        optimizer: `sgd` or `adamw`.
        lr: peak learning rate.
        lr_of: other peak learning rates by student, named with its width or without.
        momentum: of SGD.
        weight_decay: on all parameters.
        schedule: of the learning rate: `warmup-cosine` rises linearly over the first half of the
            budget and falls as a half cosine over the second; `cosine` falls over all of it.
        augment: DSA augmentations joined by `_`, one of them per step with parameters of its own
            for each image; null for none.
        ema: largest decay of the averaged weights that are scored; null scores the last ones.
        update_every: steps between updates of learning rate and average; `epochs` sets it to the
            steps of an epoch.
    """

    name: str
    students: list[str]
    seeds: int = 3
    steps: int | None = None
    epochs: int | None = None
    batch: int = 256
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    lr_of: dict[str, float] = field(default_factory=dict)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["constant", "cosine", "warmup-cosine"] = "cosine"
    augment: str | None = None
    ema: float | None = None
    update_every: int = 1

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError(
                f"protocol {self.name} has steps {self.steps} and epochs {self.epochs}; its budget "
                "is one of them, the other is null."
            )
        for key in ("seeds", "steps", "epochs", "batch", "update_every"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"protocol {self.name}: {key} is at least 1, got {value}.")
        for key, rate in {
            "lr": self.lr,
            **{f"lr_of.{k}": v for k, v in self.lr_of.items()},
        }.items():
            if rate <= 0:
                raise InputError(f"protocol {self.name}: {key} is positive, got {rate}.")
        if self.weight_decay < 0:
            raise InputError(
                f"protocol {self.name}: weight_decay is at least 0, got {self.weight_decay}."
            )
        for key, share in {"momentum": self.momentum, "ema": self.ema}.items():
            if share is not None and not 0 <= share < 1:
                raise InputError(f"protocol {self.name}: {key} is in [0, 1), got {share}.")
        if not self.students:
            raise InputError(f"protocol {self.name} trains no student; name one or more.")
        if len(set(self.students)) < len(self.students):
            raise InputError(f"protocol {self.name} names a student twice: {self.students}.")
        check_augment(self.augment, f"protocol {self.name}: augment")
        self.check_students()

    def check_students(self, resolution: int | None = None) -> None:
        """Refuse students that do not exist, or that cannot take images of `resolution` pixels."""
        for student in [*self.students, *self.lr_of]:
            check_network(student, resolution if student in self.students else None)

    def resolve(self, images: int) -> "EvalProtocol":
        """The protocol in steps, for a set of so many images: epochs become steps."""
        if self.epochs is None:
            return self
        per_epoch = -(-images // self.batch)
        return replace(self, steps=self.epochs * per_epoch, epochs=None, update_every=per_epoch)

    def lr_for(self, student: str) -> float:
        """Peak learning rate: the student's own, its network's at any width, or the common one."""
        base, _ = parse_network(student)
        return self.lr_of.get(student, self.lr_of.get(base, self.lr))

    @property
    def hash(self) -> str:
        """12 hex digits of all that decides one training: not the name, students or seeds."""
        content = asdict(self)
        for key in ("name", "students", "seeds"):
            del content[key]
        text = json.dumps({"loop": _LOOP, **content}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_protocol(
    name: str,
    *,
    students: Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
) -> EvalProtocol:
    """A protocol that latentdc brings (`quick`, `ld3m`) or a YAML file, with parts replaced.

    Args:
        name: of the protocol, or path of the file.
        students: networks in place of the protocol's.
        seeds: trainings per student in place of the protocol's.
        steps: budget in place of the protocol's.

    Raises:
        InputError: no such file, an unknown key, or a value that is not allowed.
    """
    protocol = config.load(EvalProtocol, config.find(name, FOLDER))
    if students is not None:
        protocol = replace(protocol, students=list(students))
    if seeds is not None:
        protocol = replace(protocol, seeds=seeds)
    if steps is not None:
        protocol = replace(protocol, steps=steps, epochs=None)
    return protocol
