"""A report: what each rule finds easy and hard, how far rules agree, which labels look wrong."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from latentdc import io, pictures
from latentdc.data.dataset import Dataset
from latentdc.plain_text import in_markdown, markdown_table
from latentdc.prune.coreset import Coreset
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.select import (
    Choice,
    Order,
    best_first,
    choose_rows,
    class_rows,
    ranked,
    ranks,
)
from latentdc.recipe import Prune
from latentdc.recipe.rules import RULES

_SHOWN = 10  # images of each class and end
_CLASSES = 20  # classes shown, at most
BOTH: tuple[tuple[Order, str], ...] = (("easy", "The easiest"), ("hard", "The hardest"))
_WRONG = 0.01  # share of the images whose labels are held for the likeliest to be wrong
_ENDS = (0.01, 0.1, 0.3)  # shares of the easiest images that two rules are compared by


def write_report(folder: Path, table: ScoreTable, train: Dataset, coreset: Coreset) -> Path:
    """Write `report.md`, whose path is returned, and its pictures; the folder is made if need be.

    The scores are those of `train`, in its order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = coreset.indices(train)
    columns = {name: column for name, column in table.columns.items() if name in RULES}
    hardness = {name: table.hardness(name) for name in columns}
    lines = [f"# Pruning {train.name}", ""]
    lines += [f"{len(kept)} of {len(train)} images kept by {coreset.by}.", ""]
    lines += [_balance(train, kept, suspects(table)), ""]
    if coreset.rule in RULES and RULES[coreset.rule].chooses and train.kind == "images":
        _grid(folder / "kept.png", train, lambda rows, n: rows[torch.isin(rows, kept)][:n])
        lines += [f"Some of each class that {coreset.rule} chose:", "", "![kept](kept.png)", ""]
    lines += _agreement(hardness, train.labels)
    for name, column in columns.items():
        _histogram(folder / f"{name}.png", name, column, kept)
        lines += [f"## {name}", "", f"{RULES[name].hard} is hard.", ""]
        lines += [f"![histogram of {name}]({name}.png)", ""]
        for order, title in BOTH if train.kind == "images" else ():
            _grid(folder / f"{name}-{order}.png", train, best_first(hardness[name], order))
            lines += [f"{title} of each class, from left to right:", ""]
            lines += [f"![{title.lower()} by {name}]({name}-{order}.png)", ""]
    io.write_text(folder / "report.md", "\n".join(lines))
    return folder / "report.md"


def suspects(table: ScoreTable) -> Tensor | None:
    """(M,) rows of the labels that are likeliest wrong, the worst first; None where nothing tells.

    They are those whose label loses against another one throughout a training: Pleiss et al.,
    "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS 2020,
    https://arxiv.org/abs/2001.10528. Where only given weights were looked through, their loss takes
    the place of the area under the margin.
    """
    for rule in ("aum", "loss"):
        if rule in table.columns:
            rows = ranked(table.hardness(rule), "hard")
            return rows[: max(1, round(_WRONG * len(table)))]
    return None


def _balance(train: Dataset, kept: Tensor, wrong: Tensor | None) -> str:
    """A table of each class: images before and after, its shares, and its suspicious labels."""
    counts = [train.labels.bincount(minlength=train.num_classes)]
    counts.append(train.labels[kept].bincount(minlength=train.num_classes))
    titles = ["class", "images", "kept", "share before", "share after"]
    if wrong is not None:
        titles.append("labels to check")
        counts.append(train.labels[wrong].bincount(minlength=train.num_classes))
    rows = [titles]
    numbers = torch.stack(counts, dim=1).tolist()
    for name, (old, new, *suspicious) in zip(train.class_names, numbers, strict=True):
        shares = f"{old / len(train):.2%}", f"{new / len(kept):.2%}"
        rows.append([name, str(old), str(new), *shares, *map(str, suspicious)])
    return markdown_table(rows, cell=in_markdown)


def _agreement(hardness: dict[str, Tensor], labels: Tensor) -> list[str]:
    told = "Spearman's rank correlation of hardness, mean over classes:"
    lines = ["## How far rules agree", "", told]
    lines += ["", _matrix(hardness, partial(within_class_spearman, labels=labels)), ""]
    for share in _ENDS:
        lines += [f"What the easiest {share:.0%} of each class have in common:", ""]
        lines += [_matrix(hardness, partial(overlap, labels=labels, keep=share)), ""]
    return lines


def _grid(path: Path, train: Dataset, choice: Choice) -> None:
    """What is chosen of each class's images."""
    classes = range(min(train.num_classes, _CLASSES))
    shown = torch.cat([choice(train.members(label), _SHOWN) for label in classes])
    pictures.save_grid(path, train.images[shown], train.labels[shown], train.class_names)


def _histogram(path: Path, name: str, column: Tensor, kept: Tensor) -> None:
    """Draw all scores, and those that were kept; outliers share the outermost bars."""
    from matplotlib.figure import Figure

    low, high = (float(q) for q in column.double().quantile(torch.tensor([0.001, 0.999]).double()))
    edges = torch.linspace(low, max(high, low + 1e-6), 61).tolist()
    figure = Figure(figsize=(6, 2.5), layout="tight")
    axes = figure.subplots()
    for some, label in ((column, "all"), (column[kept], "kept")):
        axes.hist(some.clamp(edges[0], edges[-1]).numpy(), edges, label=label)
    axes.set(xlabel=name, ylabel="images", yscale="log")
    axes.legend()
    with io.writing(path) as part:
        figure.savefig(part, format="png", dpi=100)


def within_class_spearman(a: Tensor, b: Tensor, labels: Tensor) -> float:
    """Spearman's correlation of two (N,) scores, averaged over classes; equals share a rank.

    Classes in which a score is the same for all images have none; NaN if that is all of them.
    """
    values = []
    for rows in class_rows(labels):
        if len(rows) == 0:
            continue
        both = torch.stack([ranks(a[rows]), ranks(b[rows])])
        values.append(torch.corrcoef(both)[0, 1])
    return float(torch.stack(values).nanmean())


def overlap(a: Tensor, b: Tensor, labels: Tensor, keep: float) -> float:
    """Share that the lowest `keep` of each class by two (N,) scores have in common."""
    first, second = (choose_rows(best_first(x, "easy"), labels, Prune(keep=keep)) for x in (a, b))
    return len(set(first.tolist()) & set(second.tolist())) / len(first)


def _matrix(scores: dict[str, Tensor], compare: Callable[[Tensor, Tensor], float]) -> str:
    """A Markdown table that compares every score with every other, each two once."""
    rows = [["", *scores]]
    alike = {
        frozenset(pair): f"{compare(scores[pair[0]], scores[pair[1]]):.2f}"
        for pair in combinations(scores, 2)
    }
    for name in scores:
        rows.append([name, *(alike.get(frozenset((name, other)), "") for other in scores)])
    return markdown_table(rows)
