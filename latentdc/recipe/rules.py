"""Every rule of pruning: what computes it, what that sees, and which end of it is hard.

The only place that lists them, read by recipes without importing torch. A new rule is a function
in latentdc/prune/rules/, its line here and a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from latentdc.errors import InputError
from latentdc.misfits import nearest


@dataclass(frozen=True)
class Rule:
    """One way to rank or to choose images.

    Attributes:
        function: `module:name` below latentdc.prune.rules.
        stage: when it is computed, and so what it may see: of `contents` alone (hashes, labels,
            seed); from the `predictions` of a scorer, then averaged over epochs and runs, or of the
            `last` epoch only (logits, labels, features, images, classifier); from the `records` of
            a training (loss, logit_margin, change); from `subsets`, trainings on parts of the data
            (loss, held_out); from `features` (and labels, seed, clusters); or as a `choice` of a
            set, which needs the budget (count, features, hardness, draws). A stage but those of
            predictions and subsets also sees all of `RuleSettings`.
        inputs: names of its arguments, among what its stage may see.
        hard: whether hard images have `high` or `low` scores; of choices without a sense.
        free: needs nothing that scoring does not compute anyway, so that it is always kept.
        base: of a choice, the rule whose column it ranks by; `*` takes `prune.rules.base`.
    """

    function: str
    stage: Literal["contents", "predictions", "last", "records", "subsets", "features", "choice"]
    inputs: tuple[str, ...]
    hard: Literal["high", "low"] = "high"
    free: bool = False
    base: str | None = None

    def __call__(self, available: Mapping[str, Any]) -> Any:
        """The function on its inputs, picked from what is available."""
        module, _, name = self.function.partition(":")
        function = getattr(import_module(f"latentdc.prune.rules.{module}"), name)
        return function(*(available[key] for key in self.inputs))

    @property
    def chooses(self) -> bool:
        """Whether it chooses a set and ranks no image by itself."""
        return self.stage == "choice"

    @property
    def needs_training(self) -> bool:
        """Whether it looks at a training, so that given weights do not do."""
        return self.stage in ("records", "subsets")

    @property
    def needs_features(self) -> bool:
        """Whether it looks at the features of all images at once."""
        return self.stage == "features" or ("features" in self.inputs and self.chooses)


RULES = {
    "loss": Rule("loss:cross_entropy", "predictions", ("logits", "labels"), free=True),
    "random": Rule("random:random_scores", "contents", ("hashes", "seed")),
    "el2n": Rule("el2n:el2n", "predictions", ("logits", "labels"), free=True),
    "grand": Rule("grand:last_layer", "predictions", ("logits", "labels", "features")),
    "grand_full": Rule("grand:full", "predictions", ("classifier", "images", "labels")),
    "entropy": Rule("entropy:entropy", "last", ("logits",), free=True),
    "margin": Rule("margin:margin", "last", ("logits",), free=True),
    "least_confidence": Rule("least_confidence:least_confidence", "last", ("logits",), free=True),
    "forgetting": Rule("forgetting:forgetting", "records", ("logit_margin",), free=True),
    "aum": Rule("aum:aum", "records", ("logit_margin",), hard="low", free=True),
    "aum_probability": Rule(
        "aum:aum_probability", "records", ("loss", "logit_margin"), hard="low", free=True
    ),
    "tdds": Rule("tdds:tdds", "records", ("change", "span", "decay")),
    "memorization": Rule("memorization:memorization", "subsets", ("loss", "held_out")),
    "distance": Rule("distance:distance", "features", ("features", "labels")),
    "prototypes": Rule("prototypes:prototypes", "features", ("features", "clusters", "seed")),
    "moderate": Rule("moderate:moderate", "choice", ("hardness", "count"), base="distance"),
    "herding": Rule("herding:herding", "choice", ("features", "count")),
    "kcenter": Rule("kcenter:kcenter", "choice", ("features", "count")),
    "ccs": Rule("ccs:ccs", "choice", ("hardness", "draws", "count", "strata", "cutoff"), base="*"),
    "d2": Rule(
        "d2:d2",
        "choice",
        ("features", "hardness", "count", "neighbours", "gamma", "cutoff"),
        base="*",
    ),
}


def require_rule(name: str, key: str) -> Rule:
    """The rule of that name.

    Raises:
        InputError: there is none; the nearest name is said.
    """
    if name not in RULES:
        raise InputError(
            f"{key}: there is no rule {name!r}{nearest(name, RULES)}; known: {', '.join(RULES)}."
        )
    return RULES[name]
