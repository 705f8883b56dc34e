"""Every rule of pruning: what computes it, what that sees, and which end of it is hard.

The only place that lists them, read by recipes without importing torch. A new rule is a function
in latentdc/prune/rules/, its line here and a test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Any, Literal

from latentdc.errors import InputError, nearest
from latentdc.recipe.own import FORM, failed, is_own, resolve

Stage = Literal[
    "contents", "predictions", "last", "records", "subsets", "features", "choice", "groups"
]


@dataclass(frozen=True)
class Rule:
    """One way to rank or to choose images.

    Attributes:
        function: `module:name` below latentdc.prune.rules; its arguments are named as what its
            stage may see.
        stage: when it is computed, and so what it may see: of `contents` alone (hashes, labels,
            seed); from the `predictions` of a scorer, then averaged over epochs and runs, or of the
            `last` epoch only (logits, labels, features, images, classifier); from the `records` of
            a training (loss, logit_margin, change); from `subsets`, trainings on parts of the data
            (loss, held_out); from `features` (and labels, seed, clusters); or as a `choice` of a
            set, which needs the budget (count, features, hardness, draws). A stage but those of
            predictions and subsets also sees all of `RuleSettings`.
        hard: whether hard images have `high` or `low` scores; of choices without a sense.
        free: needs nothing that scoring does not compute anyway, so that it is always computed.
        base: of a choice, the rule whose column it ranks by; `*` takes `prune.rules.base`.
        own: whether the function is somebody's own, by its whole name.
    """

    function: str
    stage: Stage
    hard: Literal["high", "low"] = "high"
    free: bool = False
    base: str | None = None
    own: bool = False

    def __call__(self, available: Mapping[str, Any]) -> Any:
        """The function on its arguments, picked from what is available."""
        seen = {name: available[name] for name in self.inputs}
        if not self.own:
            return self._implementation(**seen)
        seen = {name: _copied(one) for name, one in seen.items()}
        try:
            found = self._implementation(**seen)
        except Exception as error:
            raise failed(self._label, "fails", error) from error
        self._require(found, available)
        return found if self.chooses else found.float()

    @property
    def _label(self) -> str:
        return f"prune.score={self.function.partition('#')[0]}"

    def _require(self, found: Any, available: Mapping[str, Any]) -> None:
        """Refuse what a user's own rule returns where nothing can be ranked or chosen by it."""
        count = available["count"] if self.chooses else len(available["labels"])
        told = f"{self._label} returns "
        if not hasattr(found, "float") or found.shape != (count,):
            got = (hasattr(found, "float") and tuple(found.shape)) or type(found).__name__
            raise InputError(
                f"{told}{'rows' if self.chooses else 'a score of each sample'}, a tensor of shape "
                f"({count},), got {got}."
            )
        if not self.chooses and not bool(found.float().isfinite().all()):
            raise InputError(f"{told}scores that are not finite.")
        if self.chooses:
            rows, size = {*found.tolist()}, len(available["draws"])
            if found.is_floating_point() or not rows <= {*range(size)}:
                raise InputError(f"{told}rows that are not whole numbers from 0 to {size - 1}.")
            if len(rows) < count:
                raise InputError(f"{told}a row twice.")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the function's arguments."""
        return _arguments(self._implementation)

    @property
    def _implementation(self) -> Callable[..., Any]:
        if self.own:
            function: Callable[..., Any] = resolve(self.function, "prune.score")
            return function
        module, _, name = self.function.partition(":")
        function = getattr(import_module(f"latentdc.prune.rules.{module}"), name)
        return function

    @property
    def chooses(self) -> bool:
        """Whether it chooses a set and ranks no image by itself."""
        return self.stage in ("choice", "groups")

    @property
    def needs_training(self) -> bool:
        """Whether it needs records of a training, which weights of the user do not have."""
        return self.stage in ("records", "subsets")

    @property
    def needs_features(self) -> bool:
        """Whether it needs the features of all images at once."""
        return self.stage == "features" or (self.chooses and "features" in self.inputs)


def _copied(one: Any) -> Any:
    """What a user's own rule may change, where other rules see the same tensor."""
    if hasattr(one, "tensor"):  # features of all images, read anew
        return one.tensor
    return one.clone() if hasattr(one, "clone") else one


@cache
def _arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(signature(function).parameters)


class _Rules(dict[str, Rule]):
    """Rules by name; a user's own is imported when it is looked up, and is not listed."""

    def __missing__(self, name: str) -> Rule:
        if not is_own(name):
            raise KeyError(name)
        return _own_rule(name)


@cache
def _own_rule(name: str) -> Rule:
    """A rule of one's own: what its function's arguments are called says what it sees.

    `logits` and `labels` of a batch (averaged over epochs and runs), `features` of all images,
    or `hashes`, `labels` and `seed` alone: it returns (N,) scores, high for hard. With `count` it
    chooses: rows of that many samples of one class, of their `features`, `hardness` or `draws`.

    Raises:
        InputError: there is no such function, or it takes other arguments.
    """
    label = f"prune.score={name.partition('#')[0]}"
    function = resolve(name, "prune.score")
    if not callable(function):
        raise InputError(f"{label} is a function, got a {type(function).__name__}.")
    taken = {*_arguments(function)}
    stage: Stage = "contents"
    for mark, later in _STAGE_OF.items():
        if mark in taken:
            stage = later
            break
    if not taken or taken - _SEEN[stage]:
        raise InputError(
            f"{label} takes {', '.join(sorted(taken)) or 'no arguments'}; a rule sees "
            + "; or ".join(", ".join(sorted(names)) for names in _SEEN.values())
            + "."
        )
    return Rule(name, stage, base="*" if "hardness" in taken else None, own=True)


_STAGE_OF: dict[str, Stage] = {"count": "choice", "logits": "predictions", "features": "features"}
_SEEN: dict[str, set[str]] = {
    "contents": {"hashes", "labels", "seed"},
    "predictions": {"logits", "labels", "features"},
    "features": {"features", "labels", "seed", "clusters"},
    "choice": {"count", "features", "hardness", "draws"},
}

RULES = _Rules(
    {
        "loss": Rule("predictions:cross_entropy", "predictions", free=True),
        "random": Rule("sampling:random_scores", "contents"),
        "el2n": Rule("predictions:el2n", "predictions", free=True),
        "grand": Rule("predictions:grand", "predictions"),
        "grand_full": Rule("predictions:grand_full", "predictions"),
        "entropy": Rule("predictions:entropy", "last", free=True),
        "margin": Rule("predictions:margin", "last", free=True),
        "least_confidence": Rule("predictions:least_confidence", "last", free=True),
        "forgetting": Rule("dynamics:forgetting", "records", free=True),
        "aum": Rule("dynamics:aum", "records", hard="low", free=True),
        "aum_probability": Rule("dynamics:aum_probability", "records", hard="low", free=True),
        "tdds": Rule("dynamics:tdds", "records"),
        "memorization": Rule("dynamics:memorization", "subsets"),
        "distance": Rule("features:distance", "features"),
        "prototypes": Rule("features:prototypes", "features"),
        "moderate": Rule("sampling:moderate", "choice", base="distance"),
        "herding": Rule("features:herding", "choice"),
        "kcenter": Rule("features:kcenter", "choice"),
        "ccs": Rule("sampling:ccs", "choice", base="*"),
        "d2": Rule("features:d2", "choice", base="*"),
        "gist": Rule("sets:gist", "choice", base="*"),
        "s3": Rule("sets:s3", "groups"),
    }
)


def require_rule(name: str, key: str) -> Rule:
    """The rule of that name; another is refused with the nearest one."""
    if name not in RULES and not is_own(name):
        raise InputError(
            f"{key}: there is no rule {name!r}{nearest(name, RULES)}; known: {', '.join(RULES)}, "
            f"or {FORM} of your own."
        )
    return RULES[name]
