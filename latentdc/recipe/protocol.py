"""`EvalProtocol`: how students are trained and scored, with a name and a hash.

Imports no torch, so that a recipe's protocol is checked within a blink.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral
from typing import Any, Literal

from latentdc.errors import InputError, counted
from latentdc.recipe.checks import check_augment, require
from latentdc.recipe.fields import build, check_fields, show
from latentdc.recipe.identity import changed, digest, first_default, idle
from latentdc.recipe.labels import Labels, Views
from latentdc.recipe.networks import LIMITS, can_stack, check_network, parse_network
from latentdc.recipe.own import Own, name_of, own_names

# Raised when the same protocol would train another student. 2: VGG-11 under 64 px is DC's, decay of
# `matrices` asks for names with "weight", and networks see contiguous images.
LOOP = 2
_NOT_HASHED = ("name", "students", "seeds", "together", "unsettled")
# Every hash holds these; what was added later enters it where it is not at its default.
_ALWAYS_HASHED = (
    "steps epochs batch optimizer lr lr_of momentum weight_decay schedule augment ema update_every"
).split()


@dataclass(frozen=True, kw_only=True)
class EvalProtocol:
    """A budget, an optimiser and a pool of students.

    Attributes:
        name: printed beside every number.
        students: networks to train, such as `convnet3@32` or `torchvision/resnet18`.
        seeds: independent trainings per student, with the seeds 0, 1, ...
        together: seeds that are trained side by side, as one network (`networks.stacked`). Each
            step is that of the seed alone, but for rounding, which many steps amplify.
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
        subset: share of the images that an epoch sees, others in each epoch until all were seen
            (RS2); a budget of epochs is of such epochs. null sees all.
        test_crop: side of the central part of a test image that is scored, enlarged to its size;
            0.875 is the usual "resize to 256, crop 224".
        unsettled: settings that the sources do not settle; they are said beside every number.

    Examples:
        >>> protocol = latentdc.EvalProtocol(name="mine", students=["convnet3"], epochs=10)
        >>> protocol.resolve(images=100, classes=10).steps
        10
    """

    name: str
    students: list[Own]
    seeds: int = 3
    together: int = 1
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
    subset: float | None = None
    test_crop: float = 1.0
    unsettled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        named = {name_of(name): rate for name, rate in self.lr_of.items()}  # as students are
        object.__setattr__(self, "lr_of", named)
        for holds, message in _checks(self):
            require(holds, f"protocol {self.name}: {message}")
        check_augment(self.augment, f"protocol {self.name}: augment")
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
            self._require_vectors()
        if not self.students:
            raise InputError(f"protocol {self.name} trains no student; name one or more.")
        if len(set(map(parse_network, self.students))) < len(self.students):
            raise InputError(
                f"protocol {self.name} names a student twice: {self.students} (a name without a "
                "width has the published one)."
            )
        known = {parse_network(student): student for student in self.students}
        for name in self.lr_of:
            student = known.get(parse_network(name), name)
            require(
                name in (student, student.partition("@")[0]),
                f"protocol {self.name}: lr_of names {name}, which is the student {student}; give "
                f"both one name, or lr_of the network's at any width, {name.partition('@')[0]}.",
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
        alone = [student for student in self.students if not can_stack(student)]
        if self.together > 1 and alone:
            fitting = ", ".join(base for base, limits in LIMITS.items() if limits.stacks)
            raise InputError(
                f"protocol {self.name}: together={self.together} trains seeds of {fitting} side by "
                f"side, and {alone[0]} is none of these; take another student, or together=1."
            )

    def _require_vectors(self) -> None:
        """Refuse what is about images, where students are trained on feature vectors."""
        about_images = {
            "augment": self.augment is not None,
            "views": self.views.change,
            "test_crop": self.test_crop != 1,
            "labels.source": self.labels.source != "hard",
        }
        for key, found in about_images.items():
            require(
                not found,
                f"protocol {self.name}: its {key} is about images, and the data set has vectors; "
                "take the protocol vectors, or one of your own without it.",
            )

    def resolve(self, images: int, classes: int) -> "EvalProtocol":
        """The protocol in steps and one batch size, for so many images of so many classes."""
        for value in (images, classes):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise InputError(f"images and classes are whole numbers, got {show(value)}.")
        if images < 1 or classes < 1:
            raise InputError(
                f"protocol {self.name} trains on images of classes, got "
                f"{counted(images, 'image')} of {counted(classes, 'class')}."
            )
        ipc = -(-images // classes)
        doubled = self.batch_double_from is not None and classes >= self.batch_double_from
        batch = _of_ipc(self.batch_of_ipc, ipc) * (2 if doubled else 1) or self.batch
        epochs = self.epochs or _of_ipc(self.epochs_of_ipc, ipc)
        each = -(-self.seen(images) // batch)
        return replace(
            self,
            batch=batch,
            batch_of_ipc={},
            batch_double_from=None,
            epochs_of_ipc={},
            steps=self.steps or epochs * each,
            epochs=None,
            update_every=self.update_every if self.steps else each,
        )

    def seen(self, images: int) -> int:
        """How many of so many images an epoch shows."""
        return images if self.subset is None else max(1, round(self.subset * images))

    @property
    def budget(self) -> int:
        """Steps of a training, of a protocol that is resolved."""
        assert self.steps is not None, "resolve() turns epochs into steps"
        return self.steps

    def epoch_steps(self, images: int) -> int:
        """Steps of an epoch on so many images."""
        return -(-self.seen(images) // self.batch)

    def epochs_on(self, images: int) -> int:
        """Epochs of a training on so many images; the last may end early."""
        return -(-self.budget // self.epoch_steps(images))

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
        unsettled = [key for key in self.unsettled if key.partition(".")[0] not in ("lr", "lr_of")]
        name = f"{self.name} with learned lr"
        return replace(self, name=name, lr=lr, lr_of={}, unsettled=unsettled)

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
        """12 hex digits of all that decides one training: not name, students, seeds, together.

        Settings that change nothing beside the others (`idle`) count as their defaults.
        """
        return self._hash_under(LOOP)

    def _hash_under(self, loop: int) -> str:
        """The hash as it was when the training of students had this number."""
        every = asdict(self) | {"lr_of": _own_rates(self.lr, self.lr_of)}
        content: dict[str, Any] = {"loop": loop}
        for f in fields(self):
            if f.name in (*_NOT_HASHED, "views", "labels"):
                continue
            default = first_default(f)
            value = default if f.name in self.idle else every[f.name]
            if f.name in _ALWAYS_HASHED or value != default:
                content[f.name] = value
        parts = {"views": changed(self.views), "labels": changed(self.labels)}
        content |= {key: part for key, part in parts.items() if part}
        if self.labels.teachers:
            content["labels"]["teachers"] = [t.settings() for t in self.labels.teachers]
        return digest(json.dumps(content, sort_keys=True).encode())


def require_hash(settings: Mapping[str, Any], recorded: str) -> None:
    """Refuse stored settings that are not those of the hash which lies beside them.

    The hash may be of an earlier `LOOP`. What this version cannot read is not judged, nor what
    depends on code or weights that may have changed since.
    """
    try:
        protocol = build(EvalProtocol, {**settings, "together": 1})
    except InputError:
        return
    if any(own_names(protocol)) or any(teacher.in_file for teacher in protocol.labels.teachers):
        return
    if recorded not in {protocol._hash_under(loop) for loop in range(1, LOOP + 1)}:
        raise InputError(
            f"protocol {protocol.name} stands under the hash {recorded}, and that of its settings "
            f"is {protocol.hash}: they were changed since; bring the file back, or score again."
        )


def _of_ipc(table: Mapping[int, int], ipc: int) -> int:
    """The value of the smallest listed ipc that is not below ours, or of the largest; 0 of none."""
    if not table:
        return 0
    reach = [listed for listed in table if listed >= ipc]
    return table[min(reach) if reach else max(table)]


def _own_rates(lr: float, lr_of: Mapping[str, float]) -> dict[str, float]:
    """The learning rates that differ from what a student would have without them."""
    bases = {name: rate for name, rate in lr_of.items() if "@" not in name and rate != lr}
    widths = {
        name: rate
        for name, rate in lr_of.items()
        if "@" in name and rate != bases.get(name.partition("@")[0], lr)
    }
    return bases | widths


def _checks(protocol: EvalProtocol) -> Iterator[tuple[bool, str]]:
    """What holds for every protocol, each with what to say of one for which it does not."""
    given = (protocol.steps is not None, protocol.epochs is not None, bool(protocol.epochs_of_ipc))
    yield (
        sum(given) == 1,
        f"it has steps {protocol.steps} and epochs {protocol.epochs}; its budget is one of them, "
        "or epochs_of_ipc; the others are null.",
    )
    for key in ("seeds", "together", "steps", "epochs", "batch", "update_every"):
        value = getattr(protocol, key)
        yield value is None or value >= 1, f"{key} is at least 1, got {value}."
    for key in ("epochs_of_ipc", "batch_of_ipc"):
        table = getattr(protocol, key)
        yield (
            all(ipc >= 1 and value >= 1 for ipc, value in table.items()),
            f"{key} maps images per class to whole numbers of at least 1, got {table}.",
        )
    rates = {key: getattr(protocol, key) for key in ("lr", "zeta", "gamma")}
    for key, rate in {**rates, **{f"lr_of.{k}": v for k, v in protocol.lr_of.items()}}.items():
        yield rate > 0, f"{key} is positive, got {rate}."
    decay = protocol.weight_decay
    yield decay >= 0, f"weight_decay is at least 0, got {decay}."
    for key in ("momentum", "ema", "end", "warmup", "warmup_from"):
        share = getattr(protocol, key)
        yield share is None or 0 <= share < 1, f"{key} is in [0, 1), got {share}."
    yield 0 < protocol.test_crop <= 1, f"test_crop is in (0, 1], got {protocol.test_crop}."
    every, steps = protocol.update_every, protocol.steps
    yield (
        protocol.ema is None or protocol.ema_every == "step" or not (steps or 0) % every,
        f"the average takes up the weights of each {every} steps (update_every), and of steps "
        f"{steps} would lack the last {(steps or 0) % every}; take a multiple, or ema_every=step.",
    )
    yield protocol.zeta >= 1, f"zeta is at least 1, got {protocol.zeta}."
    milestones = protocol.milestones
    yield (
        milestones == sorted(milestones) and all(0 < m < 1 for m in milestones),
        f"milestones are rising shares in (0, 1), got {milestones}.",
    )
    yield (
        (protocol.schedule == "multistep") == bool(milestones),
        f"schedule multistep and milestones come together, got {protocol.schedule} and "
        f"{milestones}.",
    )
    yield (
        not protocol.nesterov or protocol.momentum > 0 or protocol.optimizer != "sgd",
        "nesterov looks ahead along the momentum, which is 0; set nesterov=false.",
    )
    yield (
        protocol.augment is None or protocol.labels.source not in ("online", "stored"),
        "augment (DSA) acts on normalised images, which teachers do not see; use views, or "
        "labels.source=fixed.",
    )
    share = protocol.subset
    yield (
        share is None or 0 < share < 1,
        f"subset is the share of the images that an epoch sees, in (0, 1), got {share}; or null.",
    )
    if protocol.infobatch is not None:
        yield from _infobatch_checks(protocol, protocol.infobatch)
    known = {f.name for f in fields(protocol)}
    wrong = [key for key in protocol.unsettled if key.partition(".")[0] not in known]
    yield not wrong, f"unsettled names settings; {wrong} are none."


def _infobatch_checks(protocol: EvalProtocol, rho: float) -> Iterator[tuple[bool, str]]:
    yield 0 < rho < 1, f"infobatch is a probability in (0, 1), got {rho}; or null."
    hidden = {
        "subset: an image is seen in few epochs; take null": protocol.subset is not None,
        "labels.source: soft labels say how far the teachers are, not whether an image is learned; "
        "take hard": protocol.labels.source != "hard",
        "views.mix: a mixed image has the loss of two; take null": protocol.views.mix is not None,
        "together: each seed then has steps of its own; take 1": protocol.together > 1,
        "ema: averages count steps, of which epochs then have fewer and fewer; take null": (
            protocol.ema is not None
        ),
    }
    for reason, holds in hidden.items():
        yield not holds, f"infobatch judges each image by its own loss; {reason}."
