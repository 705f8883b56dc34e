"""A whole run."""

from dataclasses import dataclass, field, replace
from typing import Literal

from latentdc.recipe.checks import expand_home, require
from latentdc.recipe.data import Data
from latentdc.recipe.evaluate import Evaluate, Hub
from latentdc.recipe.fields import check_fields
from latentdc.recipe.methods import Matching, Method, Mosaic, Rded
from latentdc.recipe.objective import Experts, ObjectiveSettings
from latentdc.recipe.prior import PriorSettings
from latentdc.recipe.prune import Prune


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run: prune, make the synthetic set, evaluate.

    Attributes:
        ipc: synthetic images per class.
        seed: every draw of the run follows from it.
        output: run folder; null makes `runs/<name of the recipe>`.
        threads: CPU threads of each process; null shares the cores between the local processes.
        precision: null takes Accelerate's; anything else must agree with it.
        processes: null takes the launcher's; anything else must agree with it.
        trackers: experiment trackers of Accelerate, such as `tensorboard` or `wandb`.
    """

    data: Data = field(default_factory=Data)
    prune: Prune = field(default_factory=Prune)
    prior: PriorSettings = field(default_factory=lambda: PriorSettings(weights="digits"))
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    method: Method = field(default_factory=Method)
    distill: Matching = field(default_factory=Matching)
    mosaic: Mosaic = field(default_factory=Mosaic)
    rded: Rded = field(default_factory=Rded)
    experts: Experts = field(default_factory=Experts)
    evaluate: Evaluate = field(default_factory=Evaluate)
    push: Hub = field(default_factory=Hub)
    ipc: int = 1
    seed: int = 0
    output: str | None = None
    threads: int | None = None
    precision: Literal["no", "bf16"] | None = None
    processes: int | None = None
    trackers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        expand_home(self, "", "output")
        require(self.ipc >= 1, f"ipc is at least 1 image per class, got {self.ipc}.")
        if self.prune.times_ipc is not None:
            resolved = replace(self.prune, times_ipc=None, count=self.prune.times_ipc * self.ipc)
            object.__setattr__(self, "prune", resolved)
        require(self.seed >= 0, f"seed is at least 0, got {self.seed}.")
        require(
            self.threads is None or self.threads >= 1,
            f"threads is at least 1, got {self.threads}.",
        )
        require(
            self.processes is None or self.processes >= 1,
            f"processes is at least 1, got {self.processes}.",
        )
        if self.method.kind == "matching":
            self._check_matching()
            return
        require(
            not self.evaluate.learned_lr,
            f"evaluate.learned_lr needs a learning rate that was learned with the set, and "
            f"method.kind={self.method.kind} learns none; only matching by mtt does.",
        )
        if self.method.kind in ("mosaic", "rded"):
            self._check_cells(getattr(self, self.method.kind).grid)
        if self.method.kind in ("mosaic", "selection"):
            self._count_images()

    def _check_cells(self, grid: int) -> None:
        size = self.data.resolution
        require(
            size >= 2 * grid or grid == 1,
            f"data.resolution={size} leaves cells of {size // grid} px in a grid of {grid}; take a "
            f"smaller {self.method.kind}.grid.",
        )

    def _count_images(self) -> None:
        """Let pruning keep the images that are shown: n^2 for each mosaic."""
        grid = self.mosaic.grid if self.method.kind == "mosaic" else 1
        prune, needed = self.prune, grid**2 * self.ipc
        shown = f"mosaics of {grid} x {grid}" if grid > 1 else "images as they are"
        require(
            prune.keep == 1 and prune.scope == "class" and prune.count in (None, needed),
            f"{shown} at ipc {self.ipc} take exactly {needed} images of each class; leave "
            "prune.keep, prune.count, prune.times_ipc and prune.scope out.",
        )
        object.__setattr__(self, "prune", replace(prune, count=needed))

    def _check_matching(self) -> None:
        kind, trajectory = self.objective.kind, self.objective.trajectory
        if kind == "dc":
            loops = self.objective.loops.resolve(self.ipc)
            object.__setattr__(self, "objective", replace(self.objective, loops=loops))
            require(
                loops.outer == 1 or self.distill.classes_per_step is None,
                f"distill.classes_per_step={self.distill.classes_per_step}, but with "
                f"objective.loops.outer={loops.outer} the student of dc is trained on all classes; "
                "take classes_per_step=null, or objective.loops.outer=1.",
            )
        require(
            kind != "mtt" or self.distill.classes_per_step is None,
            f"distill.classes_per_step={self.distill.classes_per_step}, but objective.kind=mtt "
            "trains students on all classes at once; take null, or dm or dc.",
        )
        require(
            kind != "mtt" or self.distill.trim.share == 0,
            f"distill.trim.share={self.distill.trim.share}, but objective.kind=mtt looks at no "
            "real images, only at experts that were trained on all of them, so that none can be "
            "left out of a step. Take 0 and prune before the experts are trained (prune.keep), or "
            "take dm or dc.",
        )
        moves = self.distill.lr_z > 0 or (self.prior.kind == "diffusion" and self.distill.lr_c > 0)
        require(
            moves or self.distill.steps == 0 or kind == "mtt",  # which learns a rate all the same
            f"distill.lr_z=0 and distill.lr_c={self.distill.lr_c:g} with prior.kind="
            f"{self.prior.kind}: nothing would move in {self.distill.steps} steps. Give one that "
            "moves something a rate (only a diffusion prior has conditions), or take "
            "distill.steps=0 for the images as they start.",
        )
        last = trajectory.max_start_epoch - 1 + trajectory.expert_epochs
        require(
            kind != "mtt" or last <= self.experts.epochs,
            f"objective.trajectory wants weights of experts after up to {last} epochs "
            f"(max_start_epoch - 1 + expert_epochs), and experts.epochs is {self.experts.epochs}.",
        )
        require(
            kind == "mtt" or not self.evaluate.learned_lr,
            f"evaluate.learned_lr needs a learning rate that was learned with the set, and "
            f"objective.kind={kind} learns none; only mtt does.",
        )


def check_vectors(recipe: Recipe) -> None:
    """Refuse parts of a run, as far as its method uses them, that are not of one kind.

    Raises:
        InputError: images with a space of vectors, or vectors with what is about images.
    """
    in_prior = recipe.method.needs_prior
    if recipe.data.kind == "images":
        require(
            recipe.prior.kind != "vector" or not in_prior,
            "prior.kind=vector is the space of feature vectors, and data.kind is images; take "
            "pixel, autoencoder or diffusion.",
        )
        return
    require(
        recipe.prior.kind == "vector" or not in_prior,
        f"prior.kind={recipe.prior.kind} makes images, and data.kind is vectors; write prior: "
        "{kind: vector}.",
    )
    if recipe.method.kind != "matching":
        return
    require(
        recipe.objective.kind != "mtt",
        "objective.kind=mtt follows experts that are trained on images, and data.kind is vectors; "
        "take dm or dc.",
    )
    require(
        recipe.objective.augment is None,
        f"objective.augment={recipe.objective.augment} is about images, and data.kind is vectors; "
        "write augment: null.",
    )
    require(
        recipe.distill.grid_every == 0,
        f"distill.grid_every={recipe.distill.grid_every} draws images, and data.kind is vectors; "
        "leave it out.",
    )
