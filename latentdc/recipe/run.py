"""A whole run."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from latentdc.recipe.checks import check_start, expand_home, require, require_least
from latentdc.recipe.data import Data
from latentdc.recipe.evaluate import Evaluate, Hub
from latentdc.recipe.fields import check_fields
from latentdc.recipe.methods import METHODS, MethodSections
from latentdc.recipe.objective import Experts, ObjectiveSettings
from latentdc.recipe.prior import PriorSettings
from latentdc.recipe.prune import Prune

# Keys of pruning that say how some of the images are chosen.
_OF_A_CHOICE = ("score", "order", "scope", "rules", "window", "features")


class AskedExperts(NamedTuple):
    """What the experts that a recipe follows depend on."""

    settings: Experts
    objective: ObjectiveSettings
    data: Data
    prune: Prune
    seed: int


@dataclass(frozen=True, kw_only=True)
class Recipe(MethodSections):
    """A whole run: prune, make the synthetic set, evaluate.

    Attributes:
        ipc: synthetic images per class.
        seed: every draw of the run follows from it.
        output: run folder; null makes `runs/<name of the recipe>`.
        threads: CPU threads of each process; null shares the cores between the local processes.
        precision: null takes Accelerate's; `no` and `bf16` must agree with it; `tf32` is `no` with
            products that a GPU of NVIDIA rounds to 10 bits.
        processes: null takes the launcher's; anything else must agree with it.
        trackers: experiment trackers of Accelerate, such as `tensorboard` or `wandb`.
    """

    data: Data = field(default_factory=Data)
    prune: Prune = field(default_factory=Prune)
    prior: PriorSettings = field(default_factory=lambda: PriorSettings(weights="digits"))
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    experts: Experts = field(default_factory=Experts)
    evaluate: Evaluate = field(default_factory=Evaluate)
    push: Hub = field(default_factory=Hub)
    ipc: int = 1
    seed: int = 0
    output: str | None = None
    threads: int | None = None
    precision: Literal["no", "tf32", "bf16"] | None = None
    processes: int | None = None
    trackers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        expand_home(self, "", "output")
        require(self.ipc >= 1, f"ipc is at least 1 image per class, got {self.ipc}.")
        if self.prune.times_ipc is not None:
            resolved = replace(self.prune, times_ipc=None, count=self.prune.times_ipc * self.ipc)
            object.__setattr__(self, "prune", resolved)
        check_start(self)
        require_least(self, "", processes=1)
        for name, part in self.method.check(self).items():
            object.__setattr__(self, name, part)

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of the sections that its method takes; none of one of your own."""
        kind = self.method.kind
        return METHODS[kind].sections if kind in METHODS else ()

    @property
    def settings(self) -> Any:
        """The method's settings: a section whole, several as a tuple, or your own one's options."""
        found = tuple(getattr(self, name) for name in self.sections)
        return self.method.options if not found else found[0] if len(found) == 1 else found

    @property
    def launch(self) -> dict[str, Any]:
        """Threads, precision and processes, as `runtime.start` takes them."""
        return {"threads": self.threads, "precision": self.precision, "processes": self.processes}

    @property
    def matches(self) -> bool:
        """Whether its method optimises for an objective."""
        return "distill" in self.sections

    @property
    def follows_experts(self) -> bool:
        """Whether it matches their trajectories."""
        return self.matches and self.objective.kind == "mtt"

    @property
    def asked_experts(self) -> AskedExperts:
        """Those that it follows, if it follows any."""
        return AskedExperts(self.experts, self.objective, self.data, self.prune, self.seed)

    @property
    def samples(self) -> bool:
        """Whether its method samples images from the prior."""
        return "sampling" in self.sections

    @property
    def unread(self) -> dict[str, str]:
        """Keys and sections that change nothing beside the others, and why, where it is plain."""
        own = self.method.kind not in METHODS
        kind, prune = self.objective.kind if self.matches else None, self.prune
        scored = not prune.keeps_all or bool(prune.columns) or prune.coreset is not None
        follows = self.follows_experts or (self.samples and "influence" in self.sampling.guides)
        read = {name: name in self.sections for one in METHODS.values() for name in one.sections}
        read["prior"] = own or METHODS[self.method.kind].prior
        read |= {"objective": kind is not None, "experts": follows}
        parts = {"loops": "dc", "distance": "dc", "trajectory": "mtt", "denoise": "denoise"}
        told = {
            key: f"method.kind={self.method.kind}" for key, is_read in read.items() if not is_read
        }
        if kind is not None:
            of = f"objective.kind={kind}"
            told |= {f"objective.{part}": of for part, name in parts.items() if name != kind}
        if not scored:
            told |= {f"prune.{key}": "prune.keep=1, which keeps all" for key in _OF_A_CHOICE}
        return told

    @property
    def opened_sets(self) -> dict[str, str]:
        """Paths or Hub ids of sets that its method opens, by their keys."""
        found = {}
        if self.method.kind == "selection":
            pool, start = self.selection.pool, self.selection.start
            found = {"selection.pool": pool, "selection.start": start}
        elif self.samples and self.sampling.learns:
            found = {"sampling.learnability.start": self.sampling.learnability.start}
        return {key: name for key, name in found.items() if name is not None}

    @property
    def real_images_each(self) -> int:
        """Different images of each class of the core set that its method takes at least."""
        if self.method.kind in ("mosaic", "rded"):
            grid: int = self.settings.grid
            return grid**2 * self.ipc
        if self.method.kind == "selection":
            return 0 if self.opened_sets else self.ipc
        starts = self.matches and self.distill.init == "real"
        anchors = self.samples and self.sampling.anchors.kind in ("centres", "medoids")
        return self.ipc if starts or anchors else 0

    @property
    def asks_classifier(self) -> bool:
        """Whether its method asks a classifier of real images, which is tried on test images."""
        if self.samples:
            return self.sampling.asks_classifier
        if self.method.kind == "selection":
            return self.selection.select.kind not in (None, "random")
        return self.method.kind == "rded"


def check_vectors(recipe: Recipe) -> None:
    """Refuse parts of a run, as far as its method uses them, that are not of one kind."""
    kind = recipe.method.kind
    in_prior = kind in METHODS and METHODS[kind].prior
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
    if not recipe.matches:
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
