"""Trajectory matching and its experts."""

from dataclasses import dataclass
from typing import Literal

from latentdc.recipe.augment import check_augment
from latentdc.recipe.checks import expand_home, require
from latentdc.typed import check_fields


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Trajectory matching (`mtt`): students of synthetic images shall end where experts did.

    Attributes:
        experts: folder of expert trajectories; null makes it `runs/experts/` and a hash of all that
            they depend on. `latentdc experts RECIPE` fills it.
        expert_epochs: epochs of an expert that the student shall make up for.
        max_start_epoch: the student starts at an epoch of the expert below this one.
        syn_steps: inner steps of the student on synthetic images.
        batch_syn: synthetic images per inner step; null takes all.
        lr_student: where the student's learned learning rate starts.
        lr_lr: learning rate of that learning rate (SGD, momentum 0.5); 0 keeps it as it is.
        form: of the gradient: `unrolled` keeps all inner steps, `replayed` computes the same with
            the graph of one inner step at a time, `constant` keeps not even weights of the steps
            and ignores how a step changes the ones after it (TESLA).
    """

    experts: str | None = None
    expert_epochs: int = 2
    max_start_epoch: int = 2
    syn_steps: int = 10
    batch_syn: int | None = None
    lr_student: float = 0.01
    lr_lr: float = 1e-6
    form: Literal["unrolled", "replayed", "constant"] = "unrolled"

    def __post_init__(self) -> None:
        check_fields(self, "objective.trajectory.")
        expand_home(self, "objective.trajectory.", "experts")
        for name in ("expert_epochs", "max_start_epoch", "syn_steps", "batch_syn"):
            value = getattr(self, name)
            require(
                value is None or value >= 1,
                f"objective.trajectory.{name} is at least 1, got {value}.",
            )
        require(
            0 < self.lr_student <= 1,
            f"objective.trajectory.lr_student is in (0, 1], got {self.lr_student}.",
        )
        require(0 <= self.lr_lr <= 1, f"objective.trajectory.lr_lr is in [0, 1], got {self.lr_lr}.")


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Trainings on the core set whose weights trajectory matching follows.

    Attributes:
        count: of experts; the run uses as many.
        epochs: of each; weights are kept before the first and after each one.
        lr: learning rate (SGD), constant.
        momentum: of SGD.
        batch: images per step.
        augment: DSA augmentations joined by `_`, one of them per step with parameters of its own
            for each image; null for none.
        dtype: of the weights on disk.
    """

    count: int = 100
    epochs: int = 50
    lr: float = 0.01
    momentum: float = 0.0
    batch: int = 256
    augment: str | None = "color_crop_cutout_flip_scale_rotate"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        check_fields(self, "experts.")
        for name in ("count", "epochs", "batch"):
            value = getattr(self, name)
            require(value >= 1, f"experts.{name} is at least 1, got {value}.")
        require(self.lr > 0, f"experts.lr is positive, got {self.lr}.")
        require(0 <= self.momentum < 1, f"experts.momentum is in [0, 1), got {self.momentum}.")
        check_augment(self.augment, "experts.augment")
