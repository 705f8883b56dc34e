"""`EvalProtocol`: how students are trained and scored, with a name and a hash.

Imports no torch, so that a recipe's protocol is checked within a blink.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from latentdc import config
from latentdc.errors import InputError
from latentdc.evaluate.settings import Labels, Teacher, Views, changed
from latentdc.networks.names import check_network, parse_network
from latentdc.recipe.augment import check_augment

FOLDER = "evaluate/protocols"  # of the protocols that the package brings
_LOOP = 1  # raised when the same protocol would train another student
_NOT_HASHED = ("name", "students", "seeds", "unsettled")
# Every hash holds these; what was added later enters it where it is not at its default.
_FIRST = (
    "steps epochs batch optimizer lr lr_of momentum weight_decay schedule augment ema update_every"
).split()


@dataclass(frozen=True, kw_only=True)
class EvalProtocol:
    """A budget, an optimiser and a pool of students.

    Attributes:
        name: printed beside every number.
        students: networks to train, such as `convnet3@32` or `torchvision/resnet18`.
        seeds: independent trainings per student, with the seeds 0, 1, ...
        steps: training steps; the budget, or null where epochs give it.
        epochs: passes over the training images.
        epochs_of_ipc: epochs by images per class, in place of `epochs`: those of the smallest one
            listed that is not below the set's, or of the largest.
        batch: images per step; a smaller set is one full batch per epoch, and the last batch of an
            epoch may be short.
        batch_of_ipc: batches by images per class, read like `epochs_of_ipc`; they win.
        batch_double_from: classes from which those batches are doubled; null never.
        optimizer: `sgd` or `adamw`.
        lr: peak learning rate.
        lr_of: other peak learning rates by student, named with its width or without.
        momentum: of SGD.
        nesterov: whether that momentum looks ahead.
        weight_decay: of the parameters in `decay`.
        decay: `all` parameters, or `matrices`: weights of two or more dimensions, so neither norms
            nor biases.
        schedule: of the learning rate. `cosine` falls over the budget; `linear` likewise;
            `multistep` is multiplied by `gamma` at each of the `milestones`; `warmup-cosine` rises
            linearly over the first half and falls as a half cosine over the second.
        zeta: budgets that a cosine or linear schedule would need to reach its end.
        end: share of the peak that a cosine falls to.
        warmup: share of the budget over which the learning rate rises before the schedule starts.
        warmup_from: share of the peak at which it starts to rise.
        milestones: shares of the budget.
        gamma: factor at each of them.
        augment: DSA augmentations joined by `_`, one of them per step with parameters of its own
            for each image; null for none.
        ema: largest decay of the averaged weights that are scored; null scores the last ones.
        ema_every: one averaging per `update` (see there), its decay growing from 0, or one per
            `step`, its decay constant.
        update_every: steps between updates of learning rate and average; epochs set it to the steps
            of an epoch.
        views: how images look anew in every epoch.
        labels: what students learn.
        test_crop: side of the central part of a test image that is scored, enlarged to its size;
            0.875 is the usual "resize to 256, crop 224".
        unsettled: settings that the sources do not settle; they are said beside every number.
    """

    name: str
    students: list[str]
    seeds: int = 3
    steps: int | None = None
    epochs: int | None = None
    epochs_of_ipc: dict[int, int] = field(default_factory=dict)
    batch: int = 256
    batch_of_ipc: dict[int, int] = field(default_factory=dict)
    batch_double_from: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    lr_of: dict[str, float] = field(default_factory=dict)
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "cosine", "linear", "multistep", "warmup-cosine"] = "cosine"
    zeta: float = 1.0
    end: float = 0.0
    warmup: float = 0.0
    warmup_from: float = 0.01
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    augment: str | None = None
    ema: float | None = None
    ema_every: Literal["update", "step"] = "update"
    update_every: int = 1
    views: Views = field(default_factory=Views)
    labels: Labels = field(default_factory=Labels)
    test_crop: float = 1.0
    unsettled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._check_budget()
        self._check_numbers()
        self._check_combinations()
        check_augment(self.augment, f"protocol {self.name}: augment")
        self.check_students()

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise InputError(f"protocol {self.name}: {message}")

    def _check_budget(self) -> None:
        given = (self.steps is not None, self.epochs is not None, bool(self.epochs_of_ipc))
        if sum(given) != 1:
            raise InputError(
                f"protocol {self.name} has steps {self.steps} and epochs {self.epochs}; its budget "
                "is one of them, or epochs_of_ipc; the others are null."
            )
        for key in ("seeds", "steps", "epochs", "batch", "update_every"):
            value = getattr(self, key)
            self._require(value is None or value >= 1, f"{key} is at least 1, got {value}.")
        for key in ("epochs_of_ipc", "batch_of_ipc"):
            table = getattr(self, key)
            self._require(
                all(ipc >= 1 and value >= 1 for ipc, value in table.items()),
                f"{key} maps images per class to whole numbers of at least 1, got {table}.",
            )

    def _check_numbers(self) -> None:
        for key, rate in {
            "lr": self.lr,
            "zeta": self.zeta,
            "gamma": self.gamma,
            **{f"lr_of.{k}": v for k, v in self.lr_of.items()},
        }.items():
            self._require(rate > 0, f"{key} is positive, got {rate}.")
        self._require(
            self.weight_decay >= 0, f"weight_decay is at least 0, got {self.weight_decay}."
        )
        for key in ("momentum", "ema", "end", "warmup", "warmup_from"):
            share = getattr(self, key)
            self._require(share is None or 0 <= share < 1, f"{key} is in [0, 1), got {share}.")
        self._require(0 < self.test_crop <= 1, f"test_crop is in (0, 1], got {self.test_crop}.")
        self._require(self.zeta >= 1, f"zeta is at least 1, got {self.zeta}.")
        self._require(
            self.milestones == sorted(self.milestones) and all(0 < m < 1 for m in self.milestones),
            f"milestones are rising shares in (0, 1), got {self.milestones}.",
        )

    def _check_combinations(self) -> None:
        self._require(
            (self.schedule == "multistep") == bool(self.milestones),
            f"schedule multistep and milestones come together, got {self.schedule} and "
            f"{self.milestones}.",
        )
        self._require(
            self.augment is None or self.labels.source not in ("online", "stored"),
            "augment (DSA) acts on normalised images, which teachers do not see; use views, or "
            "labels.source=fixed.",
        )
        known = {f.name for f in fields(self)}
        wrong = [key for key in self.unsettled if key.partition(".")[0] not in known]
        self._require(not wrong, f"unsettled names settings; {wrong} are none.")

    def check_students(self, resolution: int | None = None) -> None:
        """Refuse students that do not exist, or that cannot take images of `resolution` pixels."""
        if not self.students:
            raise InputError(f"protocol {self.name} trains no student; name one or more.")
        if len(set(self.students)) < len(self.students):
            raise InputError(f"protocol {self.name} names a student twice: {self.students}.")
        for student in [*self.students, *self.lr_of]:
            check_network(student, resolution if student in self.students else None)

    def resolve(self, images: int, classes: int) -> "EvalProtocol":
        """The protocol in steps and one batch size, for so many images of so many classes."""
        ipc = -(-images // classes)
        doubled = self.batch_double_from is not None and classes >= self.batch_double_from
        batch = _of_ipc(self.batch_of_ipc, ipc) * (2 if doubled else 1) or self.batch
        epochs = self.epochs or _of_ipc(self.epochs_of_ipc, ipc)
        sized = replace(
            self,
            batch=batch,
            batch_of_ipc={},
            batch_double_from=None,
            epochs_of_ipc={},
            steps=self.steps or epochs * -(-images // batch),
            epochs=None,
        )
        return sized if self.steps else replace(sized, update_every=-(-images // batch))

    def lr_for(self, student: str) -> float:
        """Peak learning rate: the student's own, its network's at any width, or the common one."""
        base, _ = parse_network(student)
        return self.lr_of.get(student, self.lr_of.get(base, self.lr))

    def with_learned_lr(self, lr: float | None) -> "EvalProtocol":
        """The protocol at the learning rate that was learned with a set, for all students and rows.

        Raises:
            InputError: the set has none, or the protocol does not train by SGD, whose rate it is.
        """
        self._require(
            self.optimizer == "sgd",
            f"evaluate.learned_lr gives a rate of SGD, and its optimizer is {self.optimizer}.",
        )
        if lr is None:
            raise InputError("evaluate.learned_lr is set, but the set has no learned lr.")
        return replace(self, name=f"{self.name} with learned lr", lr=lr, lr_of={})

    @property
    def hash(self) -> str:
        """12 hex digits of all that decides one training: not the name, students or seeds."""
        content = {key: value for key, value in asdict(self).items() if key in _FIRST}
        new = {"name": self.name, "students": self.students, "steps": 1}
        plain = EvalProtocol(**new)  # type: ignore[arg-type]
        for key in sorted(asdict(self).keys() - set(_FIRST) - set(_NOT_HASHED)):
            if getattr(self, key) != getattr(plain, key):
                content[key] = asdict(self)[key]
        for key, part in {"views": self.views, "labels": self.labels}.items():
            if key in content:
                content[key] = changed(part)
        if self.labels.teachers:
            content["labels"]["teachers"] = [t.settings() for t in self.labels.teachers]
        text = json.dumps({"loop": _LOOP, **content}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EvalProtocol":
        """The protocol whose `asdict` went through JSON, which knows no tuples or whole keys."""
        teachers = [Teacher(**_tuples(teacher)) for teacher in content["labels"]["teachers"]]
        parts: dict[str, Any] = {
            "views": Views(**_tuples(content["views"])),
            "labels": Labels(**{**content["labels"], "teachers": teachers}),
        }
        for key in ("epochs_of_ipc", "batch_of_ipc"):
            parts[key] = {int(ipc): value for ipc, value in content[key].items()}
        return cls(**{**content, **parts})


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}


def _of_ipc(table: Mapping[int, int], ipc: int) -> int:
    """The value of the smallest listed ipc that is not below ours, or of the largest; 0 of none."""
    if not table:
        return 0
    reach = [listed for listed in table if listed >= ipc]
    return table[min(reach) if reach else max(table)]


def load_protocol(
    name: str,
    *,
    students: Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
    changes: Sequence[str] = (),
) -> EvalProtocol:
    """A protocol that latentdc brings (`quick`, `ld3m`, ...) or a YAML file, with parts replaced.

    Args:
        name: of the protocol, or path of the file.
        students: networks in place of the protocol's.
        seeds: trainings per student in place of the protocol's.
        steps: budget in place of the protocol's.
        changes: other keys as `key=value`, such as `views.flip=false`; the name then says which,
            because it is no longer the protocol of that name.

    Raises:
        InputError: no such file, an unknown key, or a value that is not allowed.
    """
    protocol = config.load(EvalProtocol, config.find(name, FOLDER), changes)
    if changes:
        keys = [change.partition("=")[0] for change in changes]
        protocol = replace(protocol, name=f"{protocol.name} with other {', '.join(keys)}")
    if students is not None:
        protocol = replace(protocol, students=list(students))
    if seeds is not None:
        protocol = replace(protocol, seeds=seeds)
    if steps is not None:
        protocol = replace(protocol, steps=steps, epochs=None, epochs_of_ipc={})
    return protocol
