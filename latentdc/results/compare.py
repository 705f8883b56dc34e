"""`compare`: any results side by side, as tables, as a frame and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latentdc.arguments import require_a
from latentdc.errors import InputError
from latentdc.recipe.fields import show
from latentdc.results.comparison import FORMATS, require_choices, written
from latentdc.results.frontier import draw_frontier
from latentdc.results.result import Result
from latentdc.results.runs import read_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare(
    *runs: str | Path | Sequence[Result], against: str | None = None, top5: bool = False
) -> "Comparison":
    """Results side by side: a table for each protocol and test set, differences paired by seed.

    Args:
        runs: folders of runs or sweeps, files of results, or results that `evaluate_sets` gave.
        against: set from which the others are subtracted; None takes the first of each table.
        top5: whether the right class is among the student's first five, in place of the first.

    Returns:
        The comparison; printed, it is its tables.

    Raises:
        InputError: nothing to compare, a file that is none of ours, no set of the name `against`,
            or no top-5 accuracies.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> kept = train.select(coreset.indices(train))
        >>> protocol = latentdc.load_protocol("quick", students=["convnet3@8"], seeds=2, steps=5)
        >>> how, sets = latentdc.Normalization(), {"one": kept, "two": train}
        >>> results = latentdc.evaluate_sets(sets, test, protocol, normalization=how)
        >>> latentdc.compare(results, against="one")
        <Comparison of one, two: print(...), to_frame(), figure()>
    """
    if not runs:
        raise InputError("compare takes folders of runs or results of evaluate_sets, got none.")
    for one in runs:
        known = isinstance(one, str | Path) or (
            isinstance(one, Sequence) and all(isinstance(each, Result) for each in one)
        )
        if not known:
            raise InputError(
                f"compare takes folders of runs or results of evaluate_sets, got {show(one)}."
            )
    if not isinstance(top5, bool):
        raise InputError(f"top5 is True or False, got {show(top5)}.")
    value = "top5" if top5 else "accuracy"
    if not isinstance(against, str | None):
        raise InputError(f"against is the name of a set, or None, got {show(against)}.")
    frame = read_runs(runs)
    require_choices(frame, against, value)
    return Comparison(frame, against, value)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `compare` returns.

    Attributes:
        frame: what `to_frame` returns.
        against: set from which the others are subtracted; None is the first of each table.
        value: `accuracy` or `top5`.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> kept = train.select(coreset.indices(train))
        >>> protocol = latentdc.load_protocol("quick", students=["convnet3@8"], seeds=2, steps=5)
        >>> how = latentdc.Normalization()
        >>> results = latentdc.evaluate_sets({"mine": kept}, test, protocol, normalization=how)
        >>> latentdc.compare(results).to_frame()["name"].unique().tolist()
        ['mine']
    """

    frame: pd.DataFrame
    against: str | None
    value: str

    def __post_init__(self) -> None:
        hint = "such as that of latentdc.compare(...)"
        require_a(pd.DataFrame, self.frame, "frame", hint)
        known = isinstance(self.value, str) and self.value in ("accuracy", "top5")
        if not known or not {"name", self.value} <= {*self.frame}:
            raise InputError(f"frame has the columns name and {show(self.value)}, {hint}.")

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        names = dict.fromkeys(self.frame["name"])
        return f"<Comparison of {', '.join(names)}: print(...), to_frame(), figure()>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.to_text())}</pre>"

    def to_frame(self) -> pd.DataFrame:
        """A row for each training, as of `Results.to_frame`.

        `name` names each set apart from all others, `origin` is the run that it is of.
        """
        return self.frame.copy()

    def to_text(self) -> str:
        """Tables in aligned columns."""
        return self.to("text")

    def to_markdown(self) -> str:
        """Tables for Markdown."""
        return self.to("markdown")

    def to(self, kind: str) -> str:
        """Tables as `text`, `markdown`, `latex` or `csv`.

        Raises:
            InputError: another one.
        """
        if not isinstance(kind, str) or kind not in FORMATS:
            raise InputError(f"a comparison is written as {', '.join(FORMATS)}, got {show(kind)}.")
        return written(self.frame, kind, self.against, self.value)

    def figure(self) -> "Figure":
        """Accuracy against bytes: a panel for each protocol (rows) and student (columns).

        Raises:
            InputError: matplotlib is not installed, or the bytes of no set are known.
        """
        found = draw_frontier(self.frame, self.value)
        if found is None:
            raise InputError(
                "a figure shows accuracy against bytes, and the bytes of no set are known."
            )
        return found
