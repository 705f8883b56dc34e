"""Evaluation of the finished set, and where it is pushed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from latentdc.recipe.checks import require, require_least, require_once
from latentdc.recipe.fields import check_fields
from latentdc.recipe.own import Own

REPO = re.compile(r"(?!.*(--|\.\.|\.git$))\b[\w.-]{1,96}\b/\b[\w.-]{1,96}\b", re.ASCII)
_REF = re.compile(r"(?!.*(\.\.|//|/\.|\.lock$))\w[\w./-]{0,98}(?<![./])", re.ASCII)
_PROTOCOLS = {  # keys of a protocol that keys of `evaluate` say too
    "students": {"students"},
    "seeds": {"seeds"},
    "together": {"together"},
    "steps": {"steps", "epochs", "epochs_of_ipc"},
    "learned_lr": {"lr", "lr_of"},
}
BASELINES = ("random", "coreset", "kept", "full")  # rows beside those of the sets in question


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How the distilled set and its baselines are scored.

    Attributes:
        protocol: name of a protocol that latentdc brings, or a YAML file.
        students: networks to train; null takes the protocol's.
        seeds: independent trainings per student; null takes the protocol's.
        together: seeds that are trained side by side; null takes the protocol's.
        steps: training steps per student; null takes the protocol's budget.
        changes: other keys of the protocol, such as `views.cells=3`; its name then says so.
        learned_lr: train all students with the learning rate that `mtt` learned with the set.
        rows: sets in the table: the `distilled` one, `random` images, random images of the
            `coreset`, all that pruning `kept`, and the `full` training set.
    """

    protocol: str = "quick"
    students: list[Own] | None = None
    seeds: int | None = None
    together: int | None = None
    steps: int | None = None
    changes: list[str] = field(default_factory=list)
    learned_lr: bool = False
    rows: list[Literal["distilled", "random", "coreset", "kept", "full"]] = field(
        default_factory=lambda: ["distilled", "random", "coreset", "full"]
    )

    def __post_init__(self) -> None:
        check_fields(self, "evaluate.")
        require_least(self, "evaluate.", seeds=1, together=1, steps=1)
        for name, same in said_by(self.changes).items():
            require(
                getattr(self, name) in (None, False),
                f"evaluate.{name} and evaluate.changes=[{same}=...] say the same; give one of "
                "them.",
            )
        require_once(self.rows, "evaluate.rows")
        require(
            "random" in self.rows or set(self.rows) <= {"kept"},
            "evaluate.rows always has 'random': a score without its random row says little. "
            "Write rows: [] to evaluate nothing; 'kept' may stand alone, because a random set of "
            "its size is another run, with prune.score=random.",
        )


def said_by(changes: Iterable[str]) -> dict[str, str]:
    """Keys of `evaluate` that changes of a protocol's keys say too, each with those."""
    keys = {change.partition("=")[0] for change in changes}
    return {
        name: ", ".join(sorted(same & keys)) for name, same in _PROTOCOLS.items() if same & keys
    }


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where a finished synthetic set is pushed.

    Attributes:
        repo: `user/name` of a Hub data set repo; null pushes nothing.
        private: whether a repo that does not exist yet is made private.
        license: of the set, as an identifier of the Hub, such as `cc-by-4.0`; null keeps what the
            card on the Hub states, and states none where that states none.
        revision: branch of the repo, made from its main one if it is new; null takes the main one.
        tag: of the commit; one that the repo does not have yet.
    """

    repo: str | None = None
    private: bool = True
    license: str | None = None
    revision: str | None = None
    tag: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "push.")
        require(
            self.license is None or bool(re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license)),
            f"push.license is an identifier of the Hub, such as cc-by-4.0, mit or other, got "
            f"{self.license!r}.",
        )
        for name in ("revision", "tag"):
            value = getattr(self, name)
            require(
                value is None or bool(_REF.fullmatch(value)),
                f"push.{name} is a name of Git, such as v1.0, got {value!r}.",
            )
        require(
            self.repo is None or bool(REPO.fullmatch(self.repo)),
            f"push.repo is user/name, got {self.repo!r}; the Hub takes letters, digits, '_', '-' "
            "and '.', without '--' and '..', up to 96 in each.",
        )
