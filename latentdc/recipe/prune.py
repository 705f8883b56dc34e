"""The core set: scorer, rules, budgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentdc.errors import counted
from latentdc.recipe import checks
from latentdc.recipe.data import Data, refuse_image_keys
from latentdc.recipe.fields import check_fields
from latentdc.recipe.networks import check_network, pretrained
from latentdc.recipe.own import Own, is_own
from latentdc.recipe.rules import RULES, require_rule

_SCORE_FILES = (".parquet", ".csv", ".json", ".npy", ".npz")
_FEATURE_FILES = (".npy", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The classifier whose loss ranks the training images.

    Attributes:
        network: a student of latentdc (`convnet3`, `convnet3@32` for base width 32, `resnet56`) or,
            with `weights: torchvision`, a torchvision classifier (`resnet18`).
        weights: null trains the network on the spot; a safetensors file; or `torchvision` for
            torchvision's recommended weights on ImageNet, `torchvision/IMAGENET1K_V1` for others.
        epochs: epochs of on-the-spot training; the loss is averaged over them.
        lr: peak learning rate of on-the-spot training (SGD, momentum 0.9, cosine).
        batch: images per step of training; at most so many are scored together.
        mean: normalisation that given weights expect; null takes the data's.
        std: likewise.
        resolution: pixels that given weights expect; null takes the data's.
        runs: independent trainings, over which scores are averaged.
        infobatch: leave out, with this probability, each image that is easier than the mean of an
            epoch of that training (InfoBatch); null sees all.

    Examples:
        >>> scorer = latentdc.Scorer(network="resnet10", epochs=20)
        >>> latentdc.Prune(keep=0.6, scorer=scorer).scorer.epochs
        20
    """

    network: Own = "convnet3"
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
        check_fields(self, "prune.scorer.")
        checks.expand_home(self, "prune.scorer.", "weights")
        checks.require_normalization(self.mean, self.std, "prune.scorer.")
        checks.require_least(self, "prune.scorer.", epochs=1, batch=1, runs=1)
        checks.require_positive(self, "prune.scorer.", "lr")
        checks.require(
            self.infobatch is None or 0 < self.infobatch < 1,
            f"prune.scorer.infobatch is a probability in (0, 1), got {self.infobatch}.",
        )
        checks.require(
            self.resolution is None or self.resolution >= 8,
            f"prune.scorer.resolution is in pixels and at least 8, got {self.resolution}.",
        )


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """Numbers that single rules of pruning have.

    Attributes:
        base: rule by which `ccs`, `d2` and `gist` know what is hard.
        cutoff: share of the hardest images that `ccs` and `d2` leave out first.
        strata: intervals of difficulty of `ccs`.
        neighbours: of each image in the graph of `d2`.
        gamma: of `d2`: how steeply the repulsion between chosen images falls with distance.
        clusters: of `prototypes`; null takes the number of classes.
        span: epochs in a window of `tdds`.
        decay: of `tdds`, in (0, 1): weight of the last window.
        subsets: trainings of `memorization`, each without another part of the images.
        diversity: of `gist`: lambda, weight of the smallest distance beside the mean easiness.
        groups: random groups of each class, of which `s3` chooses one.
        alpha: of `s3`, weight of the mean of the class.
        beta: of `s3`, weight of the distance to the other classes' groups.

    Examples:
        >>> latentdc.Prune(score="ccs", rules=latentdc.RuleSettings(cutoff=0.2)).rules.cutoff
        0.2
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
    diversity: float = 1.0
    groups: int = 5
    alpha: float = 0.4
    beta: float = 0.9

    def __post_init__(self) -> None:
        check_fields(self, "prune.rules.")
        rule = require_rule(self.base, "prune.rules.base")
        checks.require(
            not rule.chooses,
            f"prune.rules.base ranks images, and {self.base} chooses sets; such as aum or loss.",
        )
        checks.require_below_one(self, "prune.rules.", "cutoff")
        counts = {"strata": 1, "neighbours": 1, "span": 3, "subsets": 2, "groups": 1, "clusters": 1}
        checks.require_least(self, "prune.rules.", **counts, gamma=0, diversity=0, alpha=0, beta=0)
        checks.require(0 < self.decay < 1, f"prune.rules.decay is in (0, 1), got {self.decay}.")


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Which training images the distillation may see.

    Attributes:
        score: the rule that ranks or chooses images (docs/pruning.md lists them), or your own.
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

    Examples:
        >>> latentdc.Prune(score="el2n", order="hard", count=50).expected(images=1437, classes=10)
        500
        >>> latentdc.Prune(keep=20)
        Traceback (most recent call last):
            ...
        latentdc.errors.InputError: prune.keep is a share in (0, 1], got 20.0; for 20 % write 0.2.
    """

    score: Own = "loss"
    order: Literal["easy", "hard", "middle"] = "easy"
    keep: float = 1.0
    scorer: Scorer = field(default_factory=Scorer)
    coreset: str | None = None
    scope: Literal["class", "global"] = "class"
    count: int | None = None
    times_ipc: int | None = None
    window: tuple[int, int] | None = None
    columns: list[Own] = field(default_factory=list)
    scores: str | None = None
    features: str | None = None
    rules: RuleSettings = field(default_factory=RuleSettings)

    def __post_init__(self) -> None:
        check_fields(self, "prune.")
        checks.expand_home(self, "prune.", "coreset", "scores", "features")
        checks.require(
            0 < self.keep <= 1,
            f"prune.keep is a share in (0, 1], got {self.keep}; for 20 % write 0.2.",
        )
        budgets = [self.keep < 1, self.count is not None, self.times_ipc is not None]
        checks.require(
            sum(budgets) <= 1,
            "prune.keep, prune.count and prune.times_ipc are three ways to say how much is kept; "
            "give one of them.",
        )
        checks.require_least(self, "prune.", count=1, times_ipc=1)
        checks.require(
            self.times_ipc is None or self.scope == "class",
            "prune.times_ipc is per class; with prune.scope=global take prune.count.",
        )
        self._check_rules()
        self._check_window()

    @property
    def keeps_all(self) -> bool:
        """Whether nothing has to be scored or left out."""
        return self.keep == 1 and self.count is None and self.times_ipc is None

    @property
    def scores_images(self) -> bool:
        """Whether images are scored: none are where all are kept, or by scores that are there."""
        given = self.coreset is not None or self.scores is not None
        return not given and (not self.keeps_all or bool(self.columns))

    def expected(self, images: int, classes: int) -> int:
        """About how many of so many images are kept."""
        if self.count is None:
            return round(self.keep * images)
        return self.count if self.scope == "global" else self.count * classes

    def base_of(self, name: str) -> str | None:
        """The rule by whose column a choice ranks; None of rules that rank by none."""
        base = RULES[name].base
        return self.rules.base if base == "*" else base

    @property
    def asked_rules(self) -> set[str]:
        """The rules that are named, and those that they rank by."""
        named = {self.score, *self.columns}
        return named | {base for name in named if (base := self.base_of(name)) is not None}

    def _check_rules(self) -> None:
        named = [name for name in (self.score, *self.columns) if not is_own(name)]
        for name in named:
            require_rule(name, "prune.score" if name == self.score else "prune.columns")
        if is_own(self.score):  # whose kind is known when it is imported
            return
        rule = RULES[self.score]
        fixed = "middle" if self.score == "moderate" else "easy"
        checks.require(
            not rule.chooses or self.order in ("easy", fixed),
            f"prune.order: {self.score} chooses a set of its own, which has no {self.order} end; "
            "leave prune.order out.",
        )
        checks.require(
            rule.stage != "groups" or self.scope == "class",
            f"prune.scope=global ranks images of all classes together, and {self.score} chooses a "
            "group of each; take scope=class.",
        )
        if self.scores is not None or self.coreset is not None or self.scorer.weights is None:
            return
        bases = [self.rules.base for name in named if RULES[name].base == "*"]
        for name in (*named, *bases):
            checks.require(
                not RULES[name].needs_training,
                f"{name} looks at the training of a scorer, and prune.scorer.weights gives one "
                "that is trained already; leave prune.scorer.weights out, or choose a rule such "
                "as loss, el2n or entropy" + (" (prune.rules.base)." if name in bases else "."),
            )

    def _check_window(self) -> None:
        epochs = self.scorer.epochs
        first, last = self.window or (1, epochs)
        checks.require(
            self.window is None or self.scorer.weights is None,
            "prune.window names epochs of a training, and prune.scorer.weights gives a scorer that "
            "is trained already; leave one of them out.",
        )
        checks.require(
            1 <= first <= last <= epochs,
            f"prune.window is the first and the last of the scorer's {counted(epochs, 'epoch')} "
            f"to look at, such as [1, {min(epochs, 5)}], got [{first}, {last}].",
        )
        needed = "tdds" in (self.score, self.rules.base, *self.columns) and self.scores is None
        checks.require(
            not needed or last - first + 1 >= self.rules.span,
            f"tdds looks at windows of prune.rules.span={self.rules.span} epochs and there are "
            f"{last - first + 1}: train for more prune.scorer.epochs, or choose a smaller span.",
        )


def check_prune(prune: Prune, data: Data, *, classifies: bool = False) -> None:
    """Refuse a core set, network or weights that cannot be used, before anything is loaded.

    `classifies` says whether the method asks the scorer, whatever the core set is chosen by.
    """
    if classifies:
        _check_scorer(prune.scorer, data)
    if prune.coreset is not None:
        _require_file(prune.coreset, "prune.coreset")
        return
    if prune.keeps_all and not prune.columns:
        return
    if prune.features is not None:
        _require_file(prune.features, "prune.features", _FEATURE_FILES)
    if prune.scores is not None:
        _require_file(prune.scores, "prune.scores", _SCORE_FILES)
        return
    scorer = prune.scorer
    if data.kind == "vectors":
        refuse_image_keys(scorer, ("mean", "std", "resolution"), "prune.scorer")
        checks.require(
            pretrained(scorer.weights) is None,
            f"prune.scorer.weights={scorer.weights} classifies images, and data.kind is vectors; "
            "name a file, or leave it out to train the scorer.",
        )
    scored = any(RULES[name].stage != "contents" for name in (prune.score, *prune.columns))
    if scored:
        _check_scorer(scorer, data)


def _check_scorer(scorer: Scorer, data: Data) -> None:
    if pretrained(scorer.weights) is not None:
        return
    check_network(scorer.network, scorer.resolution or data.size, data.kind)
    if scorer.weights is not None:
        _require_file(scorer.weights, "prune.scorer.weights")


def _require_file(name: str, key: str, suffixes: Sequence[str] = ()) -> None:
    checks.require(Path(name).is_file(), f"{key}: there is no file {name}.")
    known = not suffixes or Path(name).suffix in suffixes
    checks.require(known, f"{key}: {name} is none of {', '.join(suffixes)}.")
