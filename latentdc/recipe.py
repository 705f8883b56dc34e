"""What a recipe may say: one frozen dataclass per component, checked when it is built.

Nothing here imports torch, so that a wrong recipe is refused within a blink. Only `config` reads
YAML; only the commands (`main`s) and the pipelines they call know recipes.
"""

import os
from dataclasses import dataclass, field, replace
from typing import Literal

from latentdc.data.subsets import subset_indices
from latentdc.errors import InputError
from latentdc.prune.rules.names import RULES, require_rule


def require(condition: bool, message: str) -> None:
    """Refuse a recipe that does not meet `condition`."""
    if not condition:
        raise InputError(message)


def expand_home(spec: object, *paths: str) -> None:
    """Replace `~` at the beginning of those fields of a dataclass that hold paths."""
    for name in paths:
        value = getattr(spec, name)
        if value is not None and value.startswith("~"):
            object.__setattr__(spec, name, os.path.expanduser(value))


LARGEST_ZCA = 64  # px: a matrix of 0.6 GB in float32


@dataclass(frozen=True, kw_only=True)
class Data:
    """A labelled set of real images with a training and a test split.

    Attributes:
        source: `digits` (bundled with scikit-learn), a local folder (parquet files in the Hub's
            layout, or one folder per class) or a Hub data set id.
        resolution: height and width of the images, in pixels.
        config: configuration of a Hub data set, such as `plain_text`.
        revision: branch, tag or commit of a Hub data set.
        train: name of the training split.
        test: name of the test split; null looks for `test`, `validation` and `val`.
        image: image column; null finds it.
        label: label column; null finds it.
        classes: keep these classes only, by name, in this order; null keeps all.
        subset: keep the classes of a named ImageNet subset, such as `imagenette` or `a`, in its
            order; they are found by WordNet id, whatever the data set calls them.
        unreadable: an image that cannot be decoded stops the run, or is counted and left out.
        cache: folder for decoded images that are too large for memory; null means
            `$LATENTDC_CACHE` or `~/.cache/latentdc`.
        mean: per channel, of images in [0, 1]; real, synthetic and test images share it.
        std: per channel, likewise.
        zca: whiten normalised images (ZCA, fitted on the training split); students of distillation
            and evaluation see real, synthetic and test images so. Scorers do not.
    """

    source: str = "digits"
    resolution: int = 16
    config: str | None = None
    revision: str | None = None
    train: str = "train"
    test: str | None = None
    image: str | None = None
    label: str | None = None
    classes: list[str] | None = None
    subset: str | None = None
    unreadable: Literal["stop", "skip"] = "stop"
    cache: str | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    zca: bool = False

    def __post_init__(self) -> None:
        expand_home(self, "source", "cache")
        require(
            self.resolution >= 8,
            f"data.resolution is in pixels and at least 8, got {self.resolution}.",
        )
        require(min(self.std) > 0, f"data.std must be positive, got {self.std}.")
        if self.subset is not None:
            subset_indices(self.subset)
            require(
                self.classes is None,
                f"data.subset={self.subset} and data.classes={self.classes} both choose classes; "
                "give one of them.",
            )
            require(
                self.source != "digits",
                f"data.subset={self.subset} is a part of ImageNet, and data.source is digits; name "
                "a folder or a Hub id.",
            )
        values = 3 * self.resolution**2
        require(
            not self.zca or self.resolution <= LARGEST_ZCA,
            f"data.zca whitens images of up to {LARGEST_ZCA} px; at {self.resolution} px its "
            f"matrix would have {values:,} x {values:,} numbers. Leave out data.zca.",
        )


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The classifier whose loss ranks the training images.

    Attributes:
        network: a student of latentdc (`convnet3`, `convnet3@32` for base width 32, `resnet56`) or,
            with `weights: torchvision`, a torchvision classifier (`resnet18`).
        weights: null trains the network on the spot; a safetensors file; or `torchvision` for
            torchvision's pretrained weights.
        epochs: epochs of on-the-spot training; the loss is averaged over them.
        lr: peak learning rate of on-the-spot training (SGD, momentum 0.9, cosine).
        batch: images per step of training and of scoring.
        mean: normalisation that given weights expect; null takes the data's.
        std: likewise.
        resolution: pixels that given weights expect; null takes the data's.
        runs: independent trainings, over which scores are averaged.
        infobatch: leave out, with this probability, each image that is easier than the mean of an
            epoch of that training (InfoBatch); null sees all.
    """

    network: str = "convnet3"
    weights: str | None = None
    epochs: int = 10
    lr: float = 0.01
    batch: int = 256
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resolution: int | None = None
    runs: int = 1
    infobatch: float | None = None

    def __post_init__(self) -> None:
        expand_home(self, "weights")
        require(self.epochs >= 1, f"prune.scorer.epochs is at least 1, got {self.epochs}.")
        require(self.lr > 0, f"prune.scorer.lr is positive, got {self.lr}.")
        require(self.batch >= 1, f"prune.scorer.batch is at least 1, got {self.batch}.")
        require(self.runs >= 1, f"prune.scorer.runs is at least 1, got {self.runs}.")
        require(
            self.infobatch is None or 0 < self.infobatch < 1,
            f"prune.scorer.infobatch is a probability in (0, 1), got {self.infobatch}.",
        )


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """Numbers that single rules of pruning have.

    Attributes:
        base: rule by which `ccs` and `d2` know what is hard.
        cutoff: share of the hardest images that `ccs` and `d2` leave out first.
        strata: intervals of difficulty of `ccs`.
        neighbours: of each image in the graph of `d2`.
        gamma: of `d2`: how steeply the repulsion between chosen images falls with distance.
        clusters: of `prototypes`; null takes the number of classes.
        span: epochs in a window of `tdds`.
        decay: of `tdds`, in (0, 1): weight of the last window.
        subsets: trainings of `memorization`, each without another part of the images.
    """

    base: str = "aum"
    cutoff: float = 0.1
    strata: int = 50
    neighbours: int = 5
    gamma: float = 0.1
    clusters: int | None = None
    span: int = 10
    decay: float = 0.9
    subsets: int = 4

    def __post_init__(self) -> None:
        rule = require_rule(self.base, "prune.rules.base")
        require(
            not rule.chooses,
            f"prune.rules.base ranks images, and {self.base} chooses sets; such as aum or loss.",
        )
        require(0 <= self.cutoff < 1, f"prune.rules.cutoff is in [0, 1), got {self.cutoff}.")
        for name, least in (("strata", 1), ("neighbours", 1), ("span", 3), ("subsets", 2)):
            value = getattr(self, name)
            require(value >= least, f"prune.rules.{name} is at least {least}, got {value}.")
        require(self.gamma >= 0, f"prune.rules.gamma is at least 0, got {self.gamma}.")
        require(0 < self.decay < 1, f"prune.rules.decay is in (0, 1), got {self.decay}.")
        require(
            self.clusters is None or self.clusters >= 1,
            f"prune.rules.clusters is at least 1, got {self.clusters}.",
        )


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Which training images the distillation may see.

    Attributes:
        score: the rule that ranks or chooses images (docs/pruning.md lists them).
        order: keep the `easy` images, the `hard` ones, or the `middle` of the ranking, whatever
            the sign of the score.
        keep: share of each class, or of all with `scope: global`, in (0, 1]; 1 keeps everything
            and scores nothing.
        scorer: the classifier behind the scores.
        coreset: a saved core set (parquet) to use instead of scoring.
        scope: rank inside each `class`, or all images together (`global`).
        count: exact number of images in place of `keep`: of each class, or in all.
        times_ipc: `count` as a multiple of the images that are distilled.
        window: first and last epoch of the scorer's training to look at, such as [1, 5]; null
            looks at all.
        columns: further rules to score at the same time, for the scores file and the report.
        scores: a file of scores to use instead of scoring.
        features: a file with a feature vector per image, in place of the scorer's.
        rules: numbers that single rules have.
    """

    score: str = "loss"
    order: Literal["easy", "hard", "middle"] = "easy"
    keep: float = 1.0
    scorer: Scorer = field(default_factory=Scorer)
    coreset: str | None = None
    scope: Literal["class", "global"] = "class"
    count: int | None = None
    times_ipc: int | None = None
    window: tuple[int, int] | None = None
    columns: list[str] = field(default_factory=list)
    scores: str | None = None
    features: str | None = None
    rules: RuleSettings = field(default_factory=RuleSettings)

    def __post_init__(self) -> None:
        expand_home(self, "coreset", "scores", "features")
        require(
            0 < self.keep <= 1,
            f"prune.keep is a share in (0, 1], got {self.keep}; for 20 % write 0.2.",
        )
        budgets = [self.keep < 1, self.count is not None, self.times_ipc is not None]
        require(
            sum(budgets) <= 1,
            "prune.keep, prune.count and prune.times_ipc are three ways to say how much is kept; "
            "give one of them.",
        )
        for name in ("count", "times_ipc"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"prune.{name} is at least 1, got {value}.")
        require(
            self.times_ipc is None or self.scope == "class",
            "prune.times_ipc is per class; with prune.scope=global take prune.count.",
        )
        self._check_rules()
        self._check_window()

    @property
    def keeps_all(self) -> bool:
        """Whether nothing has to be scored or left out."""
        return self.keep == 1 and self.count is None and self.times_ipc is None

    def expected(self, images: int, classes: int) -> int:
        """About how many of so many images are kept."""
        if self.count is None:
            return round(self.keep * images)
        return self.count if self.scope == "global" else self.count * classes

    def _check_rules(self) -> None:
        rule = require_rule(self.score, "prune.score")
        named = [self.score, *self.columns]
        for name in self.columns:
            require_rule(name, "prune.columns")
        fixed = "middle" if self.score == "moderate" else "easy"
        require(
            not rule.chooses or self.order in ("easy", fixed),
            f"prune.order: {self.score} chooses a set of its own, which has no {self.order} end; "
            "leave prune.order out.",
        )
        if self.scores is not None or self.coreset is not None or self.scorer.weights is None:
            return
        bases = [self.rules.base for name in named if RULES[name].base == "*"]
        for name in (*named, *bases):
            require(
                not RULES[name].needs_training,
                f"{name} looks at the training of a scorer, and prune.scorer.weights gives one "
                "that is trained already; leave prune.scorer.weights out, or choose a rule such "
                "as loss, el2n or entropy" + (" (prune.rules.base)." if name in bases else "."),
            )

    def _check_window(self) -> None:
        epochs = self.scorer.epochs
        first, last = self.window or (1, epochs)
        require(
            self.window is None or self.scorer.weights is None,
            "prune.window names epochs of a training, and prune.scorer.weights gives a scorer that "
            "is trained already; leave one of them out.",
        )
        require(
            1 <= first <= last <= epochs,
            f"prune.window is the first and the last of the scorer's {epochs} epochs to look at, "
            f"such as [1, {min(epochs, 5)}], got [{first}, {last}].",
        )
        needed = "tdds" in (self.score, self.rules.base, *self.columns) and self.scores is None
        require(
            not needed or last - first + 1 >= self.rules.span,
            f"tdds looks at windows of prune.rules.span={self.rules.span} epochs and there are "
            f"{last - first + 1}: train for more prune.scorer.epochs, or choose a smaller span.",
        )


@dataclass(frozen=True, kw_only=True)
class Combine:
    """Mosaics of whole training images (`latentdc pca`).

    Attributes:
        grid: images along each side of a mosaic.
        fit: how an image takes the square shape of a cell: `squash` it, `pad` it with grey, or keep
            its `center`, which crops images that are not square.
        order: `stride` deals the ranked images out, so that each mosaic has easy and less easy
            ones; `rank` fills one mosaic after the other; `random` shuffles them.
    """

    grid: int = 2
    fit: Literal["squash", "pad", "center"] = "squash"
    order: Literal["stride", "rank", "random"] = "stride"

    def __post_init__(self) -> None:
        require(
            2 <= self.grid <= 16,
            f"combine.grid is the number of images along a side, from 2 to 16, got {self.grid}.",
        )


@dataclass(frozen=True, kw_only=True)
class Rded:
    """Mosaics of realistic crops (RDED), which `latentdc pca` makes beside its own.

    Attributes:
        pool: images of each class that are drawn at random and cropped; all of a smaller class.
        crops: of each image, of which the most realistic one is kept.
        scale: smallest and largest share of the area that a crop has.
    """

    pool: int = 300
    crops: int = 5
    scale: tuple[float, float] = (0.08, 1.0)

    def __post_init__(self) -> None:
        for name in ("pool", "crops"):
            value = getattr(self, name)
            require(value >= 1, f"rded.{name} is at least 1, got {value}.")
        require(
            0 < self.scale[0] <= self.scale[1] <= 1,
            f"rded.scale is a range of shares in (0, 1], got {list(self.scale)}; such as "
            "[0.08, 1.0].",
        )


@dataclass(frozen=True, kw_only=True)
class PriorSpec:
    """The space in which synthetic images are optimised.

    Attributes:
        kind: `pixel`, `autoencoder` (z through the decoder) or `diffusion` (LD3M).
        weights: a shipped prior (`digits`, `cifar10`), or a local folder or Hub id in diffusers
            layout.
        revision: branch, tag or commit of a Hub id.
        steps: denoising steps of the sampler.
        guidance: scale of classifier-free guidance; 1 turns it off.
        prompt: of a text-conditional prior: the text that a class starts from, `{}` being its name.
        names: what its classes are called there, where that is not their first synonym.
        autoencoder: folder or Hub id of an autoencoder to take in place of a diffusion prior's own.
        denoiser: `pretrained`, or `random`: its weights are drawn anew from the seed, those of the
            autoencoder are kept.
        skip: LD3M's residual: `x0` mixes the encoded latent into the predicted x0 (released code),
            `mean` mixes the noisy one into the mean of each step (paper, Eq. 7), `none` is without.
        clamp: limit pixel images to [-1, 1] (the published pixel methods do not).
        memory: `fast` keeps activations (one forward sweep); `low` and `replay` recompute each
            denoising step in backward (one forward more), in chunks of images, `replay` without a
            graph between them; `auto` measures what fits and keeps its choice with the run.
        chunk: images per chunk when memory is `low` or `replay`.
        truncate: gradient through the skip and the denoiser's last so many steps alone, an
            approximation; null is exact.
        channels_last: layout of the networks, which GPUs may prefer.
        compile: run the networks through torch.compile.
    """

    kind: Literal["pixel", "autoencoder", "diffusion"] = "diffusion"
    weights: str | None = None
    revision: str | None = None
    steps: int = 10
    guidance: float = 3.0
    prompt: str = "a photo of a {}"
    names: dict[str, str] = field(default_factory=dict)
    autoencoder: str | None = None
    denoiser: Literal["pretrained", "random"] = "pretrained"
    skip: Literal["x0", "mean", "none"] = "x0"
    clamp: bool = True
    memory: Literal["auto", "fast", "low", "replay"] = "auto"
    chunk: int = 10
    truncate: int | None = None
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        expand_home(self, "weights", "autoencoder")
        before, mark, after = self.prompt.partition("{}")
        require(
            bool(mark) and not set("{}") & set(before + after),
            f"prior.prompt has one {{}}, where the class's name goes, got {self.prompt!r}; write "
            "'a photo of a {}' or the like.",
        )
        require(self.chunk >= 1, f"prior.chunk is at least 1 image, got {self.chunk}.")
        require(
            self.kind == "pixel" or self.weights is not None,
            f"prior.kind {self.kind} needs prior.weights: the name of a shipped prior, a folder or "
            "a Hub id; or choose prior.kind=pixel.",
        )
        require(
            self.kind == "diffusion" or self.denoiser == "pretrained",
            f"prior.denoiser=random is for prior.kind=diffusion; {self.kind} has no denoiser.",
        )
        require(
            self.kind == "diffusion" or self.autoencoder is None,
            f"prior.autoencoder takes the place of a diffusion prior's own; with prior.kind="
            f"{self.kind} give an autoencoder as prior.weights.",
        )
        require(
            self.kind == "diffusion" or self.truncate is None,
            f"prior.truncate counts denoising steps, and prior.kind={self.kind} has none; leave it "
            "out.",
        )
        if self.kind != "diffusion":
            return
        least = 1 if self.skip == "none" else 2
        require(
            least <= self.steps <= 1000,
            f"prior.steps is between {least} and 1000 with prior.skip={self.skip}, "
            f"got {self.steps}; the skip's weights run over steps - 1.",
        )
        require(
            self.truncate is None or 1 <= self.truncate < self.steps,
            f"prior.truncate is between 1 and prior.steps - 1 = {self.steps - 1}, got "
            f"{self.truncate}; leave it out for the exact gradient.",
        )


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
        expand_home(self, "experts")
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
        for name in ("count", "epochs", "batch"):
            value = getattr(self, name)
            require(value >= 1, f"experts.{name} is at least 1, got {value}.")
        require(self.lr > 0, f"experts.lr is positive, got {self.lr}.")
        require(0 <= self.momentum < 1, f"experts.momentum is in [0, 1), got {self.momentum}.")
        check_augment(self.augment, "experts.augment")


# DC's own numbers, by ipc: steps under one student, and epochs of training between them.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


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
        for name in ("outer", "inner", "batch_syn"):
            value = getattr(self, name)
            require(
                value is None or value >= 1, f"objective.loops.{name} is at least 1, got {value}."
            )
        require(
            self.lr_student > 0, f"objective.loops.lr_student is positive, got {self.lr_student}."
        )

    def resolve(self, ipc: int) -> "Loops":
        """With both numbers; the published ones of this ipc in place of null."""
        if self.outer is not None and self.inner is not None:
            return self
        require(
            ipc in LOOPS,
            f"objective.loops: DC has numbers of its own for ipc {', '.join(map(str, LOOPS))}, and "
            f"none for ipc={ipc}; give objective.loops.outer and objective.loops.inner, such as 1 "
            "and 1 for a new student at each step.",
        )
        outer, inner = LOOPS[ipc]
        return replace(self, outer=self.outer or outer, inner=self.inner or inner)


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """What makes synthetic images behave like real ones.

    Attributes:
        kind: `dm` (distribution matching), `dc` (gradient matching) or `mtt` (trajectory matching).
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
    """

    kind: Literal["dm", "dc", "mtt"] = "dm"
    network: str = "convnet3"
    batch: int = 256
    augment: str | None = "color_crop_cutout_flip_scale_rotate"
    distance: Literal["rowwise", "cosine", "mse"] = "rowwise"
    loops: Loops = field(default_factory=Loops)
    trajectory: Trajectory = field(default_factory=Trajectory)

    def __post_init__(self) -> None:
        require(self.batch >= 1, f"objective.batch is at least 1 image, got {self.batch}.")
        check_augment(self.augment, "objective.augment")


AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def check_augment(strategy: str | None, key: str) -> None:
    """Refuse a DSA strategy that names an unknown augmentation."""
    for name in [] if strategy is None else strategy.replace("+", "_").split("_"):
        require(
            name in AUGMENTATIONS,
            f"{key} joins {', '.join(AUGMENTATIONS)} by '_' (one of them is drawn) or '+' (one "
            f"after another); {name!r} in {strategy!r} is unknown.",
        )


@dataclass(frozen=True, kw_only=True)
class Distill:
    """The optimisation of latents and conditions.

    Attributes:
        steps: updates of z and c.
        lr_z: learning rate of the latents (pixels, for the pixel prior).
        lr_c: learning rate of the class conditions; 0 keeps them as they are.
        momentum: of SGD, for both.
        classes_per_step: move at most so many classes in a step; an epoch of steps meets each once.
            null moves all classes in every step.
        init: start from encoded core-set images (`real`) or from `noise`.
        checkpoint_every: steps between checkpoints.
        grid_every: steps between pictures of the synthetic images; 0 draws none.
    """

    steps: int = 1000
    lr_z: float = 1.0
    lr_c: float = 1.0
    momentum: float = 0.5
    classes_per_step: int | None = None
    init: Literal["real", "noise"] = "real"
    checkpoint_every: int = 100
    grid_every: int = 0

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"distill.steps is at least 0, got {self.steps}.")
        for name in ("lr_z", "lr_c"):
            value = getattr(self, name)
            require(0 <= value <= 1e38, f"distill.{name} is between 0 and 1e38, got {value}.")
        require(0 <= self.momentum < 1, f"distill.momentum is in [0, 1), got {self.momentum}.")
        require(
            self.classes_per_step is None or self.classes_per_step >= 1,
            f"distill.classes_per_step is at least 1, got {self.classes_per_step}.",
        )
        require(
            self.checkpoint_every >= 1,
            f"distill.checkpoint_every is at least 1 step, got {self.checkpoint_every}.",
        )
        require(self.grid_every >= 0, f"distill.grid_every is at least 0, got {self.grid_every}.")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How the distilled set and its baselines are scored.

    Attributes:
        protocol: name of a protocol that latentdc brings, or a YAML file.
        students: networks to train; null takes the protocol's.
        seeds: independent trainings per student; null takes the protocol's.
        steps: training steps per student; null takes the protocol's budget.
        learned_lr: train all students with the learning rate that `mtt` learned with the set.
        rows: sets in the table: the `distilled` one, `random` images, random images of the
            `coreset`, and the `full` training set.
    """

    protocol: str = "quick"
    students: list[str] | None = None
    seeds: int | None = None
    steps: int | None = None
    learned_lr: bool = False
    rows: list[Literal["distilled", "random", "coreset", "full"]] = field(
        default_factory=lambda: ["distilled", "random", "coreset", "full"]
    )

    def __post_init__(self) -> None:
        require(
            self.seeds is None or self.seeds >= 1,
            f"evaluate.seeds is at least 1, got {self.seeds}.",
        )
        require(
            self.steps is None or self.steps >= 1,
            f"evaluate.steps is at least 1, got {self.steps}.",
        )
        require(
            "random" in self.rows or not self.rows,
            "evaluate.rows always has 'random': a score without its random row says little. "
            "Write rows: [] to evaluate nothing.",
        )


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where a finished synthetic set is pushed.

    Attributes:
        repo: `user/name` of a Hub data set repo; null pushes nothing.
        private: whether a repo that does not exist yet is made private.
    """

    repo: str | None = None
    private: bool = True

    def __post_init__(self) -> None:
        require(
            self.repo is None or self.repo.count("/") == 1,
            f"push.repo is user/name, got {self.repo!r}.",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run: prune, distil, evaluate.

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
    combine: Combine = field(default_factory=Combine)
    rded: Rded = field(default_factory=Rded)
    prior: PriorSpec = field(default_factory=lambda: PriorSpec(weights="digits"))
    objective: ObjectiveSpec = field(default_factory=ObjectiveSpec)
    distill: Distill = field(default_factory=Distill)
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
        expand_home(self, "output")
        require(self.ipc >= 1, f"ipc is at least 1 image per class, got {self.ipc}.")
        if self.prune.times_ipc is not None:
            resolved = replace(self.prune, times_ipc=None, count=self.prune.times_ipc * self.ipc)
            object.__setattr__(self, "prune", resolved)
        require(
            self.threads is None or self.threads >= 1,
            f"threads is at least 1, got {self.threads}.",
        )
        require(
            self.processes is None or self.processes >= 1,
            f"processes is at least 1, got {self.processes}.",
        )
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
