"""Guided sampling: what it starts from, what corrects its steps, and what is chosen in the end."""

from dataclasses import dataclass, field, replace
from typing import Literal

from latentdc.errors import counted
from latentdc.recipe.checks import expand_home, require, require_least
from latentdc.recipe.fields import check_fields
from latentdc.recipe.own import FORM, Own, is_own
from latentdc.recipe.pools import Select


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """What is kept of the real latents of a class (`sampling.anchors`).

    Attributes:
        kind: `centres` of as many clusters as images are wanted (k-means), `medoids`, the real
            latent nearest to each of them; or `gaussian`, mean and deviation of the latents after
            they were inverted to the step that sampling starts at (D3HR).
        outliers: share of the real latents that is left out first, by local outlier factor.
        neighbours: of a latent, by which it is judged.
        inverted: images of a class whose latents are looked at for `gaussian`, drawn by the name of
            the class; inverting one costs as much as sampling one.
    """

    kind: Literal["none", "centres", "medoids", "gaussian"] = "none"
    outliers: float = 0.0
    neighbours: int = 10
    inverted: int = 500

    def __post_init__(self) -> None:
        check_fields(self, "sampling.anchors.")
        require(
            0 <= self.outliers <= 0.5,
            f"sampling.anchors.outliers is a share in [0, 0.5], got {self.outliers}; for 10 % "
            "write 0.1.",
        )
        require_least(self, "sampling.anchors.", neighbours=1)
        require(
            self.inverted >= 2,
            f"sampling.anchors.inverted is at least 2, for a deviation, got {self.inverted}.",
        )


@dataclass(frozen=True, kw_only=True)
class GuideSettings:
    """A guide of the steps.

    Attributes:
        scale: of its corrections; 0 turns it off.
        window: first step that it corrects and the one after the last, counted from 0 at the
            noisiest step of the whole schedule; null is all. Published windows count down.
    """

    scale: float = 0.0
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def steps(self) -> range | None:
        """Indices of the steps that it corrects; None is all."""
        return None if self.window is None else range(*self.window)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(GuideSettings):
    """DAP.

    Attributes:
        real: latents of the class, drawn for each step, whose features images are pulled to.
    """

    real: int = 16


@dataclass(frozen=True, kw_only=True)
class InfluenceSettings(GuideSettings):
    """IGD's influence: the gradients that a network gets at some epochs of its training.

    Attributes:
        network: that is trained on the core set, as `experts` says (lr, momentum, batch, augment),
            unless that has been done.
        epochs: after which it is looked at; it is trained for the largest of them.
        real: images of a class whose gradient stands for the class.
    """

    network: Own = "convnet3"
    epochs: list[int] = field(default_factory=lambda: [0, 2, 11, 40])
    real: int = 256


@dataclass(frozen=True, kw_only=True)
class LearnabilitySettings(GuideSettings):
    """LGD.

    Attributes:
        start: folder, file or Hub id of the set of earlier images, on which the student is trained
            with the network of `prune.scorer`, for as many steps.
        teacher: weight of the loss of the classifier of the real images.
        sign: `raise` moves images to where the score is higher, `printed` takes the paper's formula
            by the letter, which lowers it.
    """

    start: str | None = None
    teacher: float = 0.5
    sign: Literal["raise", "printed"] = "raise"

    def __post_init__(self) -> None:
        super().__post_init__()
        expand_home(self, "sampling.learnability.", "start")


@dataclass(frozen=True, kw_only=True)
class SemanticSettings(GuideSettings):
    """DMGD's semantic half: conditions that become the class's own in the window.

    Before the window they are made of the other two parts alone, after it of the class alone. The
    scale is the share of the way from the class's own condition to the mixed one, 1 as published.

    Attributes:
        other: weight of the condition of another class, drawn for each image.
        noise: weight of noise that is drawn for each image and step.
        form: of the mixture: as the `paper` writes it, or as the code that was `released`.
    """

    other: float = 0.01
    noise: float = 0.06
    form: Literal["paper", "released"] = "paper"


@dataclass(frozen=True, kw_only=True)
class TransportSettings(GuideSettings):
    """DMGD's distribution term.

    Attributes:
        clusters: of the real latents, which stand for the class by their masses; a class with fewer
            latents has one for each.
        epsilon: of the entropy, in units of the mean squared difference of values.
        iterations: of Sinkhorn's.
    """

    clusters: int = 10
    epsilon: float = 0.1
    iterations: int = 5


@dataclass(frozen=True, kw_only=True)
class DiversitySettings(GuideSettings):
    """CGS.

    Attributes:
        mean_scale: share of the way to the real mean that a step leads that of the images.
        epsilon: keeps the determinant finite.
    """

    mean_scale: float = 0.0
    epsilon: float = 0.01


@dataclass(frozen=True, kw_only=True)
class OwnGuide(GuideSettings):
    """A guide of one's own (`sampling.own`); see `latentdc.methods.own`.

    Attributes:
        kind: `package.module:attribute`, or in Python the function itself, that makes a `Guide`.
        scale: that it is given; 0 turns it off.

    Examples:
        >>> def pull(anchors, scale):
        ...     def moved(state):
        ...         return state.with_mean(state.mean - scale * (state.x0 - anchors) * state.std)
        ...     return latentdc.Guide(moved)
        >>> own = latentdc.Sampling(own=[latentdc.OwnGuide(kind=pull, scale=0.1)])
        >>> own.own[0].scale
        0.1
    """

    kind: Own
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_own(self.kind), f"kind of sampling.own is {FORM}, got {self.kind[:200]!r}.")


# In the order in which they act: the condition, then what corrects the noise, x0, and the mean.
GUIDES = (
    *("semantic", "text_mode", "entropy", "learnability", "transport", "mode"),
    *("features", "influence", "deviation", "diversity"),
)
# Those that ask for the latents of a class's real images, and those that look at the class of the
# images, of which there is one in a batch then.
OF_LATENTS = ("transport", "features", "diversity")
OF_A_CLASS = (*OF_LATENTS, "influence", "deviation")
OF_A_CLASSIFIER = ("entropy", "learnability")  # of the real images


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Images sampled from a diffusion prior: anchors, guided steps, selection.

    Attributes:
        start: from `noise`, or from the `anchors`, noised as far as `strength` says.
        strength: share of the schedule that is walked from the anchors, in (0, 1].
        denoise: false decodes the anchors as they are.
        eta: share of ancestral noise: 1 is DDPM, 0 is DDIM.
        anchors: of the real latents.
        mode: pull to the anchors (MGD3).
        text_mode: pull the conditional branch to the anchors (CoDA).
        features: pull to real features of the denoiser's middle (DAP).
        influence: pull to real gradients of a training's snapshots (IGD).
        deviation: keep away from finished images of the class (IGD).
        entropy: raise a classifier's entropy (UAG).
        learnability: raise what a student of an earlier set has yet to learn (LGD).
        semantic: let conditions become the class's own along the schedule (DMGD).
        transport: move the images of a class together to its clusters (DMGD).
        diversity: spread the images of a class (CGS).
        own: guides of one's own, which act after the others.
        select: which candidates of a class stay; more of them are sampled than are wanted.
        batch: images that are denoised together, of one class where a guide looks at classes.
            Guides of sets see these, and those that were finished before.
        weights: images weigh as much as their clusters have members (DDOQ).
        checkpoint_seconds: between checkpoints, more where writing them takes long; 0 writes one
            after each batch.

    Examples:
        >>> mode = {"scale": 0.1, "window": [0, 25]}
        >>> mgd3 = latentdc.Sampling(anchors={"kind": "centres"}, mode=mode)
        >>> mgd3.mode.scale
        0.1
    """

    start: Literal["noise", "anchors"] = "noise"
    strength: float = 1.0
    denoise: bool = True
    eta: float = 1.0
    anchors: Anchors = field(default_factory=Anchors)
    mode: GuideSettings = field(default_factory=GuideSettings)
    text_mode: GuideSettings = field(default_factory=GuideSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    influence: InfluenceSettings = field(default_factory=InfluenceSettings)
    deviation: GuideSettings = field(default_factory=GuideSettings)
    entropy: GuideSettings = field(default_factory=GuideSettings)
    learnability: LearnabilitySettings = field(default_factory=LearnabilitySettings)
    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    transport: TransportSettings = field(default_factory=TransportSettings)
    diversity: DiversitySettings = field(default_factory=DiversitySettings)
    own: list[OwnGuide] = field(default_factory=list)
    select: Select = field(default_factory=Select)
    batch: int = 16
    weights: bool = False
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_fields(self, "sampling.")
        self._check_start()
        self._check_guides()
        require_least(self, "sampling.", batch=1, checkpoint_seconds=0)

    def _check_start(self) -> None:
        """Refuse starts, anchors and weights that do not go together."""
        kind, on = self.anchors.kind, self.guides
        clustered = kind in ("centres", "medoids")
        require(
            0 < self.strength <= 1,
            f"sampling.strength is a share of the schedule in (0, 1], got {self.strength}.",
        )
        require(0 <= self.eta <= 1, f"sampling.eta is in [0, 1], got {self.eta}.")
        require(
            self.start == "anchors" or self.strength == 1,
            f"sampling.strength={self.strength} is how far anchors are noised, and sampling.start="
            "noise walks the whole schedule; write sampling.start=anchors.",
        )
        require(
            kind != "none" or (self.start == "noise" and not {"mode", "text_mode"} & {*on}),
            "sampling.anchors.kind=none leaves nothing to start from or to be pulled to; take "
            "centres or medoids.",
        )
        require(
            kind != "gaussian" or (self.start == "anchors" and not {"mode", "text_mode"} & {*on}),
            "sampling.anchors.kind=gaussian is what sampling starts from: write sampling.start="
            "anchors, and take centres or medoids for sampling.mode and sampling.text_mode.",
        )
        require(
            self.denoise or (clustered and self.start == "anchors" and not on),
            "sampling.denoise=false decodes anchors as they are: take centres or medoids, "
            "sampling.start=anchors and no guides.",
        )
        require(
            self.denoise or self.select.kind is None,
            "sampling.denoise=false decodes each anchor once, and candidates of one would be the "
            f"same image; leave out sampling.select.kind={self.select.kind}.",
        )
        require(
            not self.weights or (clustered and self.select.kind is None),
            "sampling.weights=true takes the masses of clusters, one for each image; take centres "
            "or medoids and sampling.select.kind=null.",
        )

    def _check_guides(self) -> None:
        """Refuse numbers that a guide cannot have, and windows that are none."""
        require(
            self.learnability.start is not None or not self.learns,
            "learnability is what a student of earlier images has yet to learn; name their set in "
            "sampling.learnability.start.",
        )
        own = {f"own.{at}": guide for at, guide in enumerate(self.own)}
        for name, guide in ({name: getattr(self, name) for name in GUIDES} | own).items():
            require(
                guide.scale >= 0,
                f"sampling.{name}.scale is at least 0, which turns the guide off, got "
                f"{guide.scale}.",
            )
        for name, guide in self.guides.items():
            first, after = guide.window or (0, 1)
            require(
                0 <= first < after,
                f"sampling.{name}.window is [first step, step after the last], counted from 0, got "
                f"{[first, after]}.",
            )
        bounds: dict[str, dict[str, float]] = {
            "features": {"real": 1},
            "influence": {"real": 1},
            "transport": {"clusters": 1, "iterations": 1, "epsilon": 1e-12},
            "diversity": {"epsilon": 1e-6, "mean_scale": 0},
            "learnability": {"teacher": 0},
            "semantic": {"other": 0, "noise": 0},
        }
        for section, least in bounds.items():
            require_least(getattr(self, section), f"sampling.{section}.", **least)
        for name, share in (
            ("diversity.mean_scale", self.diversity.mean_scale),
            ("semantic.scale", self.semantic.scale),
            ("transport.scale", self.transport.scale),
        ):
            require(share <= 1, f"sampling.{name} is a share in [0, 1], got {share}.")
        epochs = self.influence.epochs
        require(
            bool(epochs) and min(epochs) >= 0 and len({*epochs}) == len(epochs),
            "sampling.influence.epochs are those of a training, from 0 on and each once, got "
            f"{epochs}.",
        )

    @property
    def guides(self) -> dict[str, GuideSettings]:
        """The guides that are on, by name, in the order in which they act."""
        every = {name: getattr(self, name) for name in GUIDES}
        on = {name for name, guide in every.items() if guide.scale > 0}
        on |= {"diversity"} if self.diversity.mean_scale > 0 else set()
        own = {f"own.{at}": guide for at, guide in enumerate(self.own) if guide.scale > 0}
        return {name: guide for name, guide in every.items() if name in on} | own

    @property
    def learns(self) -> bool:
        """Whether it asks a student of earlier images."""
        return self.learnability.scale > 0 or self.select.kind == "learnability"

    @property
    def asks_classifier(self) -> bool:
        """Whether it asks a classifier of the real images."""
        return self.choice.needs_classifier or not {*OF_A_CLASSIFIER}.isdisjoint(self.guides)

    @property
    def asks_latents(self) -> bool:
        """Whether it asks for the latents of real images."""
        of_guides = bool(self.own) or not {*OF_LATENTS}.isdisjoint(self.guides)
        return of_guides or self.anchors.kind != "none" or self.choice.sees == "latents"

    @property
    def class_by_class(self) -> bool:
        """Whether a guide looks at the class of the images."""
        return bool(self.own) or not {*OF_A_CLASS}.isdisjoint(self.guides)

    @property
    def chooses_noise(self) -> bool:
        """Whether it is noisy latents that are chosen from, before they are denoised (D3HR)."""
        choice = self.select
        return self.anchors.kind == "gaussian" and (choice.kind, choice.sees) == (
            "moments",
            "latents",
        )

    @property
    def choice(self) -> Select:
        """The choice among images that were sampled."""
        return replace(self.select, kind=None) if self.chooses_noise else self.select

    def check_steps(self, steps: int) -> None:
        """Refuse windows that lie outside of a schedule of so many steps."""
        for name, guide in self.guides.items():
            window = guide.window
            require(
                window is None or window[1] <= steps,
                f"sampling.{name}.window={list(window or ())} is outside of the "
                f"{counted(steps, 'step')} of prior.steps, which are counted from 0; end it at "
                f"{steps} at most.",
            )
