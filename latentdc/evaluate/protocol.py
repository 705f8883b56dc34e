"""`EvalProtocol`: how students are trained and scored, with a name and a hash.

Imports no torch, so that a recipe's protocol is checked within a blink.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from latentdc.errors import InputError
from latentdc.evaluate.label_settings import Labels, Teacher
from latentdc.evaluate.protocol_checks import check_for_vectors, check_protocol
from latentdc.evaluate.protocol_hash import protocol_hash
from latentdc.evaluate.settings import Views, idle
from latentdc.networks.names import check_network, parse_network
from latentdc.typed import check_fields


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
        decay: `all` parameters, or `matrices`, as SRe2L's code and all that follows it: those of
            two or more dimensions with "weight" in their names, so neither norms and biases nor
            tokens, positions and layer scales.
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
        infobatch: leave out, with this probability, each image that is easier than the mean of an
            epoch (InfoBatch); those that stay weigh more, and the last eighth of the epochs sees
            all. Budget and schedule are those of full epochs. null sees all.
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
    infobatch: float | None = None
    test_crop: float = 1.0
    unsettled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        check_protocol(self)
        self.check_students()

    def check_students(
        self, resolution: int | None = None, kind: Literal["images", "vectors"] | None = None
    ) -> None:
        """Refuse students that do not exist, or that cannot take the samples of a data set.

        Args:
            resolution: of its images, in pixels; None checks none.
            kind: of its samples; None checks none. Of vectors, nothing else of the protocol may be
                about images.
        """
        if kind == "vectors":
            check_for_vectors(self)
        if not self.students:
            raise InputError(f"protocol {self.name} trains no student; name one or more.")
        if len(set(map(parse_network, self.students))) < len(self.students):
            raise InputError(
                f"protocol {self.name} names a student twice: {self.students} (a name without a "
                "width has the published one)."
            )
        pad = (self.views.pad or 0) if self.views.pad_mode == "reflect" else 0
        if resolution is not None and pad >= resolution:
            raise InputError(
                f"protocol {self.name}: views.pad reflects fewer pixels than the image has, "
                f"{resolution}; got {pad}."
            )
        for student in [*self.students, *self.lr_of]:
            if student in self.students:
                check_network(student, resolution, kind)
            else:
                check_network(student)
        for teacher in self.labels.teachers:
            teacher.check_size(resolution)

    def resolve(self, images: int, classes: int) -> "EvalProtocol":
        """The protocol in steps and one batch size, for so many images of so many classes."""
        if images < 1 or classes < 1:
            raise InputError(
                f"protocol {self.name} trains on images of classes, got {images} images of "
                f"{classes} classes."
            )
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
        if self.optimizer != "sgd":
            raise InputError(
                f"protocol {self.name}: evaluate.learned_lr gives a rate of SGD, and its optimizer "
                f"is {self.optimizer}."
            )
        if lr is None:
            raise InputError("evaluate.learned_lr is set, but the set has no learned lr.")
        return replace(self, name=f"{self.name} with learned lr", lr=lr, lr_of={})

    @property
    def idle(self) -> set[str]:
        """Settings that change nothing beside the others."""
        sgd, averaged = self.optimizer == "sgd", self.ema is not None
        by_update = self.schedule != "constant" or self.warmup > 0
        by_update |= averaged and self.ema_every == "update"
        return idle(
            {
                "momentum": not sgd,
                "nesterov": not sgd,
                "decay": self.weight_decay == 0,
                "zeta": self.schedule not in ("cosine", "linear"),
                "end": self.schedule != "cosine",
                "gamma": self.schedule != "multistep",
                "warmup_from": self.warmup == 0,
                "ema_every": not averaged,
                "update_every": self.steps is None or not by_update,  # epochs have their own
                "batch": bool(self.batch_of_ipc),
                "batch_double_from": not self.batch_of_ipc,
            }
        )

    @property
    def hash(self) -> str:
        """12 hex digits of all that decides one training: not the name, students or seeds."""
        return protocol_hash(self)

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
