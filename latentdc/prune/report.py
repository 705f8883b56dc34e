"""A report to look at: what each rule finds easy and hard, and how far rules agree."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset, class_counts
from latentdc.prune.agreement import matrix, overlap, within_class_spearman
from latentdc.prune.coreset import Coreset
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.select import Order, ranked
from latentdc.recipe.rules import RULES
from latentdc.report import save_grid

SHOWN = 10  # images of each class and end
CLASSES = 20  # classes shown, at most
BOTH: tuple[tuple[Order, str], ...] = (("easy", "The easiest"), ("hard", "The hardest"))
ENDS = (0.01, 0.1, 0.3)  # shares of the easiest images that two rules are compared by


def write_report(folder: Path, table: ScoreTable, train: Dataset, coreset: Coreset) -> Path:
    """Write `report.md` and its pictures.

    Args:
        folder: made if need be.
        table: scores of `train`, in its order.
        train: the images.
        coreset: what was kept.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = coreset.indices(train)
    columns = {name: column for name, column in table.columns.items() if name in RULES}
    hardness = {n: c if RULES[n].hard == "high" else -c for n, c in columns.items()}
    lines = [f"# Pruning {train.name}", ""]
    lines += [f"{len(kept)} of {len(train)} images kept by {coreset.by}.", ""]
    lines += [*_balance(train, kept), ""]
    if coreset.rule in RULES and RULES[coreset.rule].chooses and train.kind == "images":
        _grid(folder / "kept.png", train, lambda rows: rows[torch.isin(rows, kept)])
        lines += [f"Some of each class that {coreset.rule} chose:", "", "![kept](kept.png)", ""]
    lines += _agreement(hardness, train.labels)
    for name, column in columns.items():
        _histogram(folder / f"{name}.png", name, column, kept)
        lines += [f"## {name}", "", f"{RULES[name].hard} is hard.", ""]
        lines += [f"![histogram of {name}]({name}.png)", ""]
        for order, title in BOTH if train.kind == "images" else ():
            _ends(folder / f"{name}-{order}.png", hardness[name], train, order)
            lines += [f"{title} of each class, from left to right:", ""]
            lines += [f"![{title.lower()} by {name}]({name}-{order}.png)", ""]
    part = folder / "report.md.part"
    part.write_text("\n".join(lines), encoding="utf-8")
    os.replace(part, folder / "report.md")
    return folder / "report.md"


def _balance(train: Dataset, kept: Tensor) -> list[str]:
    """Of each class, how many there were and are, and the shares of the whole."""
    before = class_counts(train)
    after = torch.bincount(train.labels[kept], minlength=train.num_classes)
    lines = ["| class | images | kept | share before | share after |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for name, old, new in zip(train.class_names, before.tolist(), after.tolist(), strict=True):
        shares = f"{old / len(train):.2%} | {new / len(kept):.2%}"
        lines.append(f"| {name} | {old} | {new} | {shares} |")
    return lines


def _agreement(hardness: dict[str, Tensor], labels: Tensor) -> list[str]:
    lines = ["## How far rules agree", "", "Spearman's rank correlation of hardness, mean over "]
    lines[-1] += "classes:"
    lines += ["", *matrix(hardness, partial(within_class_spearman, labels=labels)), ""]
    for share in ENDS:
        lines += [f"What the easiest {share:.0%} of each class have in common:", ""]
        lines += [*matrix(hardness, partial(overlap, labels=labels, keep=share)), ""]
    return lines


def _ends(path: Path, hardness: Tensor, train: Dataset, order: Order) -> None:
    """The easiest or hardest images of each class."""
    _grid(path, train, lambda rows: rows[ranked(hardness[rows], order)])


def _grid(path: Path, train: Dataset, best: Callable[[Tensor], Tensor]) -> None:
    """The first images of each class among those that `best` makes of its (n,) positions."""
    classes = range(min(train.num_classes, CLASSES))
    shown = torch.cat([best(train.members(label))[:SHOWN] for label in classes])
    save_grid(path, train.images[shown], train.labels[shown], train.class_names)


def _histogram(path: Path, name: str, column: Tensor, kept: Tensor) -> None:
    """Of all scores, and of those that were kept; outliers share the outermost bars."""
    from matplotlib.figure import Figure

    low, high = (float(q) for q in column.double().quantile(torch.tensor([0.001, 0.999]).double()))
    edges = torch.linspace(low, max(high, low + 1e-6), 61).tolist()
    figure = Figure(figsize=(6, 2.5), layout="tight")
    axes = figure.subplots()
    for some, label in ((column, "all"), (column[kept], "kept")):
        axes.hist(some.clamp(edges[0], edges[-1]).numpy(), edges, label=label)
    axes.set(xlabel=name, ylabel="images", yscale="log")
    axes.legend()
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=100)
    os.replace(part, path)
