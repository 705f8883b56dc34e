"""Which candidates of a class stay, where more are made or found than are wanted."""

from dataclasses import dataclass, field
from typing import Literal

from latentdc.recipe.checks import expand_home, require, require_least
from latentdc.recipe.fields import check_fields


@dataclass(frozen=True, kw_only=True)
class Select:
    """The choice of a class's images from a pool of candidates (`latentdc.methods.pools`).

    Attributes:
        kind: null takes the first ones and needs no pool; `random` any; `confidence` those that a
            classifier of the real images names rightly, by its confidence (CaO2); `centroids` one
            whole group per class, near the real mean and far from the other classes' groups (S3);
            `moments` the group whose moments fit the class's (D3HR); `learnability` what a student
            of the images so far has yet to learn (LGD); `nearest` those next to the class's mean,
            or to its anchors.
        groups: candidates of a class as a multiple of ipc, where a sampler makes them; a pool that
            is there already has what it has.
        space: what distances are taken in: `features` that the classifier's last layer sees, or
            `latents`; null takes latents for `moments` of a sampler, else features.
        order: of `confidence`: the `most` confident first, or the `least`.
        alpha: of `centroids`, weight of the real mean.
        beta: of `centroids`, weight of the distance to other classes.
        sweeps: of `centroids` over all classes, at most.
        skew: of `moments`, weight of the skewness.
        teacher: of `learnability`, weight of the loss of the classifier of the real images.

    Examples:
        >>> latentdc.Sampling(select=latentdc.Select(kind="confidence", groups=3)).select.groups
        3
    """

    kind: (
        Literal["random", "confidence", "centroids", "moments", "learnability", "nearest"] | None
    ) = None
    groups: int = 5
    space: Literal["features", "latents"] | None = None
    order: Literal["most", "least"] = "most"
    alpha: float = 0.4
    beta: float = 0.9
    sweeps: int = 5
    skew: float = 0.1
    teacher: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "select.")
        require(
            self.groups >= 2,
            f"select.groups is at least 2 candidates for each image, got {self.groups}; for no "
            "pool write select.kind=null.",
        )
        require_least(self, "select.", sweeps=1)
        for name in ("alpha", "beta", "skew", "teacher"):
            value = getattr(self, name)
            require(value >= 0, f"select.{name} is a weight of at least 0, got {value}.")

    def candidates(self, ipc: int) -> int:
        """How many images of each class a sampler makes."""
        return ipc if self.kind is None else self.groups * ipc

    @property
    def sees(self) -> Literal["features", "latents"]:
        """What distances are taken in."""
        return self.space or ("latents" if self.kind == "moments" else "features")

    @property
    def compares_points(self) -> bool:
        """Whether it goes by where candidates and real images lie."""
        return self.kind not in (None, "random", "confidence", "learnability")

    @property
    def needs_classifier(self) -> bool:
        """Whether it asks a classifier of the real images, for its losses or its features."""
        in_space = self.compares_points and self.sees == "features"
        return in_space or self.kind in ("confidence", "learnability")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Images as they are (`selection` in a recipe).

    Attributes:
        pool: folder, file or Hub id of any set that `latentdc evaluate` takes, whose images are the
            candidates; null takes the core set.
        start: a set likewise whose images all stay, and which the pool fills up to ipc by others.
        numbers: what the class numbers of these sets are, if they have some: `names` of classes, or
            `positions` in their order; null where that is plain.
        select: the choice; without a kind, the best images of the core set, the first of a pool.

    Examples:
        >>> latentdc.Selection(pool="runs/samples", select=latentdc.Select(kind="centroids")).pool
        'runs/samples'
    """

    pool: str | None = None
    start: str | None = None
    numbers: Literal["names", "positions"] | None = None
    select: Select = field(default_factory=Select)

    def __post_init__(self) -> None:
        check_fields(self, "selection.")
        expand_home(self, "selection.", "pool", "start")
        require(
            self.select.kind != "learnability" or self.start is not None,
            "selection.select.kind=learnability asks what a student of the images so far has yet "
            "to learn; name their set in selection.start.",
        )
        require(
            self.select.space != "latents",
            "selection.select.space=latents is of a sampler's candidates, and these are images; "
            "take features.",
        )

    @property
    def plain(self) -> bool:
        """Whether it takes the best images of the core set, and nothing else."""
        return self.pool is None and self.start is None and self.select.kind is None
