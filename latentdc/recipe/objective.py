"""What synthetic images are optimised for, and the experts that trajectory matching follows."""

from dataclasses import dataclass, field, replace
from typing import Literal

from latentdc.recipe import checks
from latentdc.recipe.fields import check_fields
from latentdc.recipe.own import Own

# DC's own numbers, by ipc: steps under one student, and epochs of training between them.
_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


@dataclass(frozen=True, kw_only=True)
class Loops:
    """Gradient matching (`dc`): how long a student lives, and what it learns on the way.

    Attributes:
        outer: steps under one student, before another one is drawn; null takes DC's own number for
            this ipc.
        inner: epochs of training on all synthetic images between two of these steps; null likewise.
        lr_student: learning rate of that training (SGD without momentum).
        batch_syn: synthetic images per step of that training.
    """

    outer: int | None = None
    inner: int | None = None
    lr_student: float = 0.01
    batch_syn: int = 256

    def __post_init__(self) -> None:
        check_fields(self, "objective.loops.")
        checks.require_least(self, "objective.loops.", outer=1, inner=1, batch_syn=1)
        checks.require_positive(self, "objective.loops.", "lr_student")

    def resolve(self, ipc: int) -> "Loops":
        """The loops with both numbers; those published for this ipc in place of null."""
        if self.outer is not None and self.inner is not None:
            return self
        checks.require(
            ipc in _LOOPS,
            "objective.loops: DC has numbers of its own for ipc "
            f"{', '.join(map(str, _LOOPS))}, and none for ipc={ipc}; give objective.loops.outer "
            "and objective.loops.inner, such as 1 and 1 for a new student at each step.",
        )
        outer, inner = _LOOPS[ipc]
        return replace(self, outer=self.outer or outer, inner=self.inner or inner)


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
        checks.expand_home(self, "objective.trajectory.", "experts")
        least = dict.fromkeys(("expert_epochs", "max_start_epoch", "syn_steps", "batch_syn"), 1)
        checks.require_least(self, "objective.trajectory.", **least)
        checks.require(
            0 < self.lr_student <= 1,
            f"objective.trajectory.lr_student is in (0, 1], got {self.lr_student}.",
        )
        checks.require(
            0 <= self.lr_lr <= 1, f"objective.trajectory.lr_lr is in [0, 1], got {self.lr_lr}."
        )


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Denoising (`denoise`): where, and under what condition, a diffusion prior judges latents.

    Attributes:
        share: of the schedule, from its cleanest end, whose steps are drawn; the cleanest one is
            left out. `prior.steps` is the whole schedule, 50 as published.
        noises: fixed draws, one of which each image gets in each step.
        largest: weight of the largest deviation beside the mean square.
        condition: of the denoiser: the image's `class`, or `none`.
        timestep: that the network is told: the step's (`mapped`), or, as released, its number in
            the shortened schedule (`respaced`).
    """

    share: float = 0.25
    noises: int = 1024
    largest: float = 10.0
    condition: Literal["class", "none"] = "class"
    timestep: Literal["mapped", "respaced"] = "mapped"

    def __post_init__(self) -> None:
        check_fields(self, "objective.denoise.")
        checks.require(
            0 < self.share <= 1,
            f"objective.denoise.share is of the schedule, in (0, 1], got {self.share}.",
        )
        checks.require_least(self, "objective.denoise.", noises=1, largest=0)

    def drawn(self, steps: int) -> range:
        """The steps of a schedule of `steps` that are drawn, counted from 0 at the cleanest.

        As published, 1 to 11 of 50.
        """
        found = range(1, int(self.share * steps))
        checks.require(
            bool(found),
            f"objective.denoise.share={self.share} of prior.steps={steps} leaves no step above the "
            "cleanest one; raise prior.steps, such as to 50.",
        )
        return found


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What makes synthetic images behave like real ones.

    Attributes:
        kind: `dm` (distribution matching), `dc` (gradient matching), `mtt` (trajectory matching) or
            `denoise` (a diffusion prior's own loss of clean latents, CaO2); or your own, see
            `latentdc.objectives.own`.
        network: the randomly initialised student, drawn anew at each step (of `dc`: see `loops`).
        batch: real images per class and step (all of them, if a class has fewer).
        augment: differentiable augmentations (DSA), joined by `_`, one of them drawn per step and
            class for real and synthetic images alike; `+` joins some that are applied one after
            another. null for none.
        distance: of `dc`, between gradients: `rowwise` cosine (DC's own), `cosine` over all of
            them as one vector, or `mse`.
        loops: of `dc`, how long a student lives.
        trajectory: of `mtt`; its students are of `network`, its augmentations are drawn per inner
            step, with parameters of their own for each image.
        denoise: of `denoise`, which uses nothing of the above.

    Examples:
        >>> latentdc.ObjectiveSettings(kind="dc", network="convnet3@64").kind
        'dc'
    """

    kind: Literal["dm", "dc", "mtt", "denoise"] | Own = "dm"
    network: Own = "convnet3"
    batch: int = 256
    augment: str | None = "color_crop_cutout_flip_scale_rotate"
    distance: Literal["rowwise", "cosine", "mse"] = "rowwise"
    loops: Loops = field(default_factory=Loops)
    trajectory: Trajectory = field(default_factory=Trajectory)
    denoise: Denoising = field(default_factory=Denoising)

    def __post_init__(self) -> None:
        check_fields(self, "objective.")
        checks.require(self.batch >= 1, f"objective.batch is at least 1 image, got {self.batch}.")
        checks.check_augment(self.augment, "objective.augment")


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Trainings on the core set whose weights trajectory matching follows.

    `sampling.influence` follows one too, with a network and epochs of its own.

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
        checks.require_least(self, "experts.", count=1, epochs=1, batch=1)
        checks.require_positive(self, "experts.", "lr")
        checks.require_below_one(self, "experts.", "momentum")
        checks.check_augment(self.augment, "experts.augment")
