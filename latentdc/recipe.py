"""What a recipe may say: one frozen dataclass per component, checked when it is built.

Nothing here imports torch, so that a wrong recipe is refused within a blink. Only `config` reads
YAML; only the commands (`main`s) and the pipelines they call know recipes.
"""

from dataclasses import dataclass, field
from typing import Literal

from latentdc.errors import InputError


def require(condition: bool, message: str) -> None:
    """Refuse a recipe that does not meet `condition`."""
    if not condition:
        raise InputError(message)


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
        unreadable: an image that cannot be decoded stops the run, or is counted and left out.
        cache: folder for decoded images that are too large for memory; null means
            `$LATENTDC_CACHE` or `~/.cache/latentdc`.
        mean: per channel, of images in [0, 1]; real, synthetic and test images share it.
        std: per channel, likewise.
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
    unreadable: Literal["stop", "skip"] = "stop"
    cache: str | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        require(
            self.resolution >= 8,
            f"data.resolution is in pixels and at least 8, got {self.resolution}.",
        )
        require(min(self.std) > 0, f"data.std must be positive, got {self.std}.")


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
    """

    network: str = "convnet3"
    weights: str | None = None
    epochs: int = 10
    lr: float = 0.01
    batch: int = 256
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resolution: int | None = None

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"prune.scorer.epochs is at least 1, got {self.epochs}.")
        require(self.lr > 0, f"prune.scorer.lr is positive, got {self.lr}.")
        require(self.batch >= 1, f"prune.scorer.batch is at least 1, got {self.batch}.")


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Which training images the distillation may see.

    Attributes:
        score: `loss` ranks by cross-entropy under the scorer; `random` ranks by a seeded draw.
        order: keep the `easy` (smallest loss) or the `hard` (largest loss) images of each class.
        keep: share of each class, in (0, 1]; 1 keeps everything and scores nothing.
        scorer: the classifier behind `loss`.
        coreset: a saved core set (parquet) to use instead of scoring.
    """

    score: Literal["loss", "random"] = "loss"
    order: Literal["easy", "hard"] = "easy"
    keep: float = 1.0
    scorer: Scorer = field(default_factory=Scorer)
    coreset: str | None = None

    def __post_init__(self) -> None:
        require(
            0 < self.keep <= 1,
            f"prune.keep is a share in (0, 1], got {self.keep}; for 20 % write 0.2.",
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
        skip: LD3M's residual: `x0` mixes the encoded latent into the predicted x0 (released code),
            `mean` mixes the noisy one into the mean of each step (paper, Eq. 7), `none` is without.
        clamp: limit pixel images to [-1, 1] (the published pixel methods do not).
        memory: `fast` keeps activations (one forward sweep); `low` recomputes each denoising step
            in backward (one forward more), in chunks of images.
        chunk: images per chunk when memory is `low`.
    """

    kind: Literal["pixel", "autoencoder", "diffusion"] = "diffusion"
    weights: str | None = None
    revision: str | None = None
    steps: int = 10
    guidance: float = 3.0
    skip: Literal["x0", "mean", "none"] = "x0"
    clamp: bool = True
    memory: Literal["fast", "low"] = "fast"
    chunk: int = 10

    def __post_init__(self) -> None:
        require(self.chunk >= 1, f"prior.chunk is at least 1 image, got {self.chunk}.")
        require(
            self.kind == "pixel" or self.weights is not None,
            f"prior.kind {self.kind} needs prior.weights: the name of a shipped prior, a folder or "
            "a Hub id; or choose prior.kind=pixel.",
        )
        if self.kind != "diffusion":
            return
        least = 1 if self.skip == "none" else 2
        require(
            least <= self.steps <= 1000,
            f"prior.steps is between {least} and 1000 with prior.skip={self.skip}, "
            f"got {self.steps}; the skip's weights run over steps - 1.",
        )


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """What makes synthetic images behave like real ones.

    Attributes:
        kind: `dm` (distribution matching) or `dc` (gradient matching).
        network: the randomly initialised student, drawn anew at each step.
        batch: real images per class and step (all of them, if a class has fewer).
        augment: differentiable augmentations (DSA), joined by `_`, one of them drawn per step and
            class for real and synthetic images alike; null for none.
        distance: of `dc`, between gradients: `rowwise` cosine (DC's own), `cosine` over all of
            them as one vector, or `mse`.
    """

    kind: Literal["dm", "dc"] = "dm"
    network: str = "convnet3"
    batch: int = 256
    augment: str | None = "color_crop_cutout_flip_scale_rotate"
    distance: Literal["rowwise", "cosine", "mse"] = "rowwise"

    def __post_init__(self) -> None:
        require(self.batch >= 1, f"objective.batch is at least 1 image, got {self.batch}.")
        check_augment(self.augment, "objective.augment")


AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def check_augment(strategy: str | None, key: str) -> None:
    """Refuse a DSA strategy that names an unknown augmentation."""
    for name in [] if strategy is None else strategy.split("_"):
        require(
            name in AUGMENTATIONS,
            f"{key} joins {', '.join(AUGMENTATIONS)} by '_'; {name!r} in {strategy!r} is unknown.",
        )


@dataclass(frozen=True, kw_only=True)
class Distill:
    """The optimisation of latents and conditions.

    Attributes:
        steps: updates of z and c.
        lr_z: learning rate of the latents (pixels, for the pixel prior).
        lr_c: learning rate of the class conditions; 0 keeps them as they are.
        momentum: of SGD, for both.
        init: start from encoded core-set images (`real`) or from `noise`.
        checkpoint_every: steps between checkpoints.
        grid_every: steps between pictures of the synthetic images; 0 draws none.
    """

    steps: int = 1000
    lr_z: float = 1.0
    lr_c: float = 1.0
    momentum: float = 0.5
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
        rows: sets in the table: the `distilled` one, `random` images, random images of the
            `coreset`, and the `full` training set.
    """

    protocol: str = "quick"
    students: list[str] | None = None
    seeds: int | None = None
    steps: int | None = None
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
    prior: PriorSpec = field(default_factory=lambda: PriorSpec(weights="digits"))
    objective: ObjectiveSpec = field(default_factory=ObjectiveSpec)
    distill: Distill = field(default_factory=Distill)
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
        require(self.ipc >= 1, f"ipc is at least 1 image per class, got {self.ipc}.")
        require(
            self.threads is None or self.threads >= 1,
            f"threads is at least 1, got {self.threads}.",
        )
        require(
            self.processes is None or self.processes >= 1,
            f"processes is at least 1, got {self.processes}.",
        )
