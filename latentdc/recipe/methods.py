"""The settings of each method."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from latentdc.errors import counted, nearest
from latentdc.recipe.checks import require, require_below_one, require_least
from latentdc.recipe.data import require_images
from latentdc.recipe.fields import check_fields
from latentdc.recipe.own import FORM, Own, is_own
from latentdc.recipe.pools import Selection
from latentdc.recipe.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Trim:
    """Leaving real images out of mini-batches by their effect on the synthetic ones (BiLP).

    Attributes:
        share: of a batch that is left out, half of it at either end of the effects, in [0, 1); 0
            leaves out none.
        refresh: effects of a class are looked at whenever it is met for so many more times; in
            between what is known of its images holds.
        effect: `taylor` takes the effect itself, to first order; `bound` is cheaper.
    """

    share: float = 0.0
    refresh: int = 10
    effect: Literal["taylor", "bound"] = "taylor"

    def __post_init__(self) -> None:
        check_fields(self, "distill.trim.")
        require(
            0 <= self.share < 1,
            f"distill.trim.share is a share of a batch in [0, 1), got {self.share}; for 20 % write "
            "0.2.",
        )
        require_least(self, "distill.trim.", refresh=1)


@dataclass(frozen=True, kw_only=True)
class Matching:
    """The optimisation of latents and conditions (`distill` in a recipe).

    Attributes:
        steps: updates of z and c.
        lr_z: learning rate of the latents (pixels, for the pixel prior); `auto`, a rate of SGD,
            is chosen by short trials before the first step.
        lr_c: learning rate of the class conditions; 0 keeps them as they are, `auto` likewise.
        momentum: of SGD, for both.
        optimizer: `sgd`, or `adam`, whose rates are of another scale.
        classes_per_step: move at most so many classes in a step; an epoch of steps meets each once.
            null moves all classes in every step.
        trim: of real mini-batches.
        init: start from encoded core-set images (`real`), from `noise`, or, in the method refine
            alone, from what was `sampled`.
        checkpoint_every: steps between checkpoints.
        grid_every: steps between pictures of the synthetic images; 0 draws none.

    Examples:
        >>> latentdc.Matching(steps=200, lr_c=0.1).steps
        200
    """

    steps: int = 1000
    lr_z: float | Literal["auto"] = field(default="auto", metadata={"was": 1.0})
    lr_c: float | Literal["auto"] = field(default="auto", metadata={"was": 1.0})
    momentum: float = 0.5
    optimizer: Literal["sgd", "adam"] = "sgd"
    classes_per_step: int | None = None
    trim: Trim = field(default_factory=Trim)
    init: Literal["real", "noise", "sampled"] = "real"
    checkpoint_every: int = 100
    grid_every: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "distill.")
        require_least(self, "distill.", steps=0, classes_per_step=1, grid_every=0)
        for name in ("lr_z", "lr_c"):
            value = getattr(self, name)
            require(
                value == "auto" or 0 <= value <= 1e38,
                f"distill.{name} is between 0 and 1e38, or auto, got {value}.",
            )
        require(
            self.lr_z != "auto" or self.optimizer == "sgd",
            f"distill.lr_z=auto is a rate of SGD, and distill.optimizer is {self.optimizer}; give "
            "it a number.",
        )
        require_below_one(self, "distill.", "momentum")
        require(
            self.checkpoint_every >= 1,
            f"distill.checkpoint_every is at least 1 step, got {self.checkpoint_every}.",
        )

    def moves(self, name: Literal["lr_z", "lr_c"]) -> bool:
        """Whether this rate is above 0, or `auto`."""
        rate: float | str = getattr(self, name)
        return isinstance(rate, str) or rate > 0


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Mosaics of whole real images, the easiest of each class (PCA's first two steps).

    Attributes:
        grid: images along each side of a mosaic.
        fit: how an image takes the square shape of a cell: `squash` it, `pad` it with grey, or keep
            its `center`, which crops images that are not square.
        order: `stride` deals the ranked images out, so that each mosaic has easy and less easy
            ones; `rank` fills one mosaic after the other; `random` shuffles them.

    Examples:
        >>> latentdc.Mosaic(grid=2, fit="pad").grid
        2
    """

    grid: int = 2
    fit: Literal["squash", "pad", "center"] = "squash"
    order: Literal["stride", "rank", "random"] = "stride"

    def __post_init__(self) -> None:
        check_fields(self, "mosaic.")
        require(
            2 <= self.grid <= 16,
            f"mosaic.grid is the number of images along a side, from 2 to 16, got {self.grid}.",
        )


@dataclass(frozen=True, kw_only=True)
class Rded:
    """Mosaics of the most realistic crops (RDED).

    Attributes:
        grid: crops along each side of an image; 1 keeps single ones at full size, as published for
            CIFAR and Tiny ImageNet.
        pool: images of each class that are drawn at random and cropped; all of a smaller class.
        crops: of each image, of which the most realistic one is kept.
        scale: smallest and largest share of the area that a crop has.
        canvas: the classifier sees a crop amid a canvas of the mean colour, as in the released
            code; false shows it enlarged to the whole image.

    Examples:
        >>> latentdc.Rded(grid=1, canvas=False).grid
        1
    """

    grid: int = 2
    pool: int = 300
    crops: int = 5
    scale: tuple[float, float] = (0.08, 1.0)
    canvas: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "rded.")
        require(
            1 <= self.grid <= 16,
            f"rded.grid is the number of crops along a side, from 1 to 16, got {self.grid}.",
        )
        require_least(self, "rded.", pool=1, crops=1)
        require(
            0 < self.scale[0] <= self.scale[1] <= 1,
            f"rded.scale is a range of shares in (0, 1], got {list(self.scale)}; such as "
            "[0.08, 1.0].",
        )


# ---- Checks: what a recipe says beside the settings, in parts that the method reads ----


def _check_matching(recipe: Any) -> dict[str, Any]:
    """Refuse objectives, rates and experts that do not go together; the loops of `dc` are set."""
    distill, objective, prior = recipe.distill, recipe.objective, recipe.prior
    kind, changes = objective.kind, {}
    require(
        distill.init != "sampled" or recipe.method.kind == "refine",
        "distill.init=sampled starts from images that were sampled; write method.kind=refine.",
    )
    if kind == "dc":
        loops = objective.loops.resolve(recipe.ipc)
        changes["objective"] = replace(objective, loops=loops)
        require(
            loops.outer == 1 or distill.classes_per_step is None,
            f"distill.classes_per_step={distill.classes_per_step}, but with "
            f"objective.loops.outer={loops.outer} the student of dc is trained on all classes; "
            "take classes_per_step=null, or objective.loops.outer=1.",
        )
    require(
        kind != "mtt" or distill.classes_per_step is None,
        f"distill.classes_per_step={distill.classes_per_step}, but objective.kind=mtt "
        "trains students on all classes at once; take null, or dm or dc.",
    )
    require(
        kind != "denoise" or prior.kind == "diffusion",
        f"objective.kind=denoise asks a denoiser, and prior.kind={prior.kind} has none; write "
        "prior.kind=diffusion.",
    )
    if kind == "denoise":
        objective.denoise.drawn(prior.steps)
    _check_trim(distill.trim.share, kind)
    conditional = prior.kind == "diffusion" and kind != "denoise"  # which moves z alone
    moves = distill.moves("lr_z") or (conditional and distill.moves("lr_c"))
    rate = str(distill.lr_c).removesuffix(".0")
    require(
        moves or distill.steps == 0 or kind == "mtt",  # which learns a rate all the same
        f"distill.lr_z=0 and distill.lr_c={rate} with prior.kind="
        f"{prior.kind}: nothing would move in {counted(distill.steps, 'step')}. Give one that "
        "moves something a rate (only a diffusion prior has conditions), or take "
        "distill.steps=0 for the images as they start.",
    )
    trajectory = objective.trajectory
    last = trajectory.max_start_epoch - 1 + trajectory.expert_epochs
    require(
        kind != "mtt" or last <= recipe.experts.epochs,
        f"objective.trajectory wants weights of experts after up to {counted(last, 'epoch')} "
        f"(max_start_epoch - 1 + expert_epochs), and experts.epochs is {recipe.experts.epochs}.",
    )
    require(
        kind == "mtt" or not recipe.evaluate.learned_lr,
        f"evaluate.learned_lr needs a learning rate that was learned with the set, and "
        f"objective.kind={kind} learns none; only mtt does.",
    )
    return changes


def _check_trim(share: float, kind: str) -> None:
    """Refuse to trim by an objective that does not tell what a real image does."""
    whys = {
        "mtt": "objective.kind=mtt looks at no real images, only at experts that were trained on "
        "all of them, so that none can be left out of a step. Take 0 and prune before the experts "
        "are trained (prune.keep), or take dm or dc.",
        "denoise": "objective.kind=denoise looks at no real images; leave it out.",
    }
    unknown = f"the effect of a real image on objective.kind={kind} is not known; leave it out."
    told = unknown if is_own(kind) else whys.get(kind, "")
    require(share == 0 or not told, f"distill.trim.share={share}, but {told}")


def _check_cells(recipe: Any) -> dict[str, Any]:
    """Refuse vectors, and cells of fewer than 2 px."""
    size, kind, grid = recipe.data.resolution, recipe.method.kind, recipe.settings.grid
    require_images(recipe.data, f"method.kind={kind}")
    require(
        size >= 2 * grid or grid == 1,
        f"data.resolution={size} leaves cells of {size // grid} px in a grid of {grid}; take a "
        f"smaller {kind}.grid.",
    )
    return {}


def _check_mosaics(recipe: Any) -> dict[str, Any]:
    _check_cells(recipe)
    grid = recipe.mosaic.grid
    return _count(recipe, grid**2 * recipe.ipc, f"mosaics of {grid} x {grid}")


def _check_selection(recipe: Any) -> dict[str, Any]:
    kind = recipe.selection.select.kind
    if kind not in (None, "random"):
        require_images(recipe.data, f"selection.select.kind={kind}")
    if not recipe.selection.plain:
        return {}
    return _count(recipe, recipe.ipc, "images as they are")


def _check_sampling(recipe: Any) -> dict[str, Any]:
    settings, prior = recipe.sampling, recipe.prior
    require(
        prior.kind == "diffusion",
        f"method.kind={recipe.method.kind} takes prior.kind=diffusion, got {prior.kind}.",
    )
    settings.check_steps(prior.steps)
    require(
        "features" not in settings.guides or not prior.compile,
        "sampling.features stops in the middle of a network, which is not compiled; set "
        "prior.compile=false.",
    )
    require(
        recipe.method.kind != "sampling" or recipe.objective.kind != "mtt",
        "objective.kind=mtt is for methods that match, and method.kind=sampling does not; leave it "
        "out. The network whose training sampling.influence follows is named in "
        "sampling.influence.network, and is trained when it is needed.",
    )
    return {}


def _check_refine(recipe: Any) -> dict[str, Any]:
    """Check both stages; the second starts from what the first left."""
    require(
        recipe.distill.init != "noise",
        "distill.init=noise, and method.kind=refine starts from sampled images; leave it out.",
    )
    require(
        not recipe.sampling.weights,
        "sampling.weights=true weighs images by the clusters that they started from, and "
        "method.kind=refine moves them on; leave it out.",
    )
    _check_sampling(recipe)
    return {**_check_matching(recipe), "distill": replace(recipe.distill, init="sampled")}


def _count(recipe: Any, images: int, shown: str) -> dict[str, Any]:
    """Let pruning keep just the images of a class that are shown."""
    prune = recipe.prune
    require(
        prune.keep == 1 and prune.scope == "class" and prune.count in (None, images),
        f"{shown} at ipc {recipe.ipc} take exactly {counted(images, 'image')} of each class; leave "
        "prune.keep, prune.count, prune.times_ipc and prune.scope out.",
    )
    return {"prune": replace(prune, count=images)}


# ---- The methods ----


class _MethodKind(NamedTuple):
    """What a recipe has to know of a method; functions of other modules are `module:function`.

    A check of a whole recipe refuses what does not go with the method, and returns the parts that
    follow from it by their names in the recipe.
    """

    function: str  # see `latentdc.methods.Method`
    sections: tuple[str, ...]  # of a recipe (`MethodSections`), which the method takes whole
    check: Callable[[Any], dict[str, Any]]
    prior: bool = False  # whether it works in the space of a prior
    check_data: str | None = None  # see `latentdc.methods.FoundMethod`


METHODS = {
    "matching": _MethodKind(
        "latentdc.methods.matching:matching", ("distill",), _check_matching, prior=True
    ),
    "sampling": _MethodKind(
        "latentdc.methods.sampling:sampling",
        ("sampling",),
        _check_sampling,
        prior=True,
        check_data="latentdc.methods.sampled:check_sample",
    ),
    "refine": _MethodKind(
        "latentdc.methods.refine:refine",
        ("sampling", "distill"),
        _check_refine,
        prior=True,
        check_data="latentdc.methods.refine:check_refine",
    ),
    "mosaic": _MethodKind("latentdc.methods.mosaics:mosaic", ("mosaic",), _check_mosaics),
    "rded": _MethodKind(
        "latentdc.methods.rded:rded",
        ("rded",),
        _check_cells,
        check_data="latentdc.methods.rded:check_crops",
    ),
    "selection": _MethodKind(
        "latentdc.methods.selection:selection",
        ("selection",),
        _check_selection,
        check_data="latentdc.methods.selection:check_selection",
    ),
}


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """What makes the synthetic set of the core set.

    Attributes:
        kind: `matching` (latents or pixels are optimised for an objective, as in LD3M), `sampling`
            (guided samples of a diffusion prior, as D4M, MGD3, ...), `refine` (sampling, then
            matching from there, as in CaO2), `mosaic` (small real images side by side, as in PCA),
            `rded` (the most realistic crops of real images, tiled), `selection` (images as they
            are, of the core set or of any pool); or `package.module:function` of your own.
        options: settings of a method of your own.
    """

    kind: Own = "matching"
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "method.")
        require(
            self.kind in METHODS or is_own(self.kind),
            f"method.kind is one of {', '.join(METHODS)} or {FORM}, got {self.kind!r}"
            f"{nearest(self.kind, METHODS) or '.'}",
        )
        if self.kind in METHODS:
            require(
                not self.options,
                f"method.options are those of a method of your own; {self.kind} is set in "
                f"{' and '.join(METHODS[self.kind].sections)}.",
            )

    def check(self, recipe: Any) -> dict[str, Any]:
        """Refuse a recipe that does not go with the method; the parts that follow from it."""
        require(
            recipe.matches or not recipe.evaluate.learned_lr,
            f"evaluate.learned_lr needs a learning rate that was learned with the set, and "
            f"method.kind={self.kind} learns none; only matching by mtt does.",
        )
        return METHODS[self.kind].check(recipe) if self.kind in METHODS else {}


@dataclass(frozen=True, kw_only=True)
class MethodSections:
    """The parts of a recipe that are about methods: which one, and the settings of each."""

    method: MethodSettings = field(default_factory=MethodSettings)
    distill: Matching = field(default_factory=Matching)
    sampling: Sampling = field(default_factory=Sampling)
    mosaic: Mosaic = field(default_factory=Mosaic)
    rded: Rded = field(default_factory=Rded)
    selection: Selection = field(default_factory=Selection)
