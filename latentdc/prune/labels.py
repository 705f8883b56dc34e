"""Likely label errors: the images whose label loses against another one throughout a training.

Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS 2020,
https://arxiv.org/abs/2001.10528. Where only given weights were looked through, their loss takes the
place of the area under the margin.
"""

import csv
import os
from pathlib import Path

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.prune.measures import PREDICTED
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.select import ranked
from latentdc.recipe.rules import RULES
from latentdc.report import save_grid

SHARE = 0.01  # of the images, listed
DRAWN = 10  # images of each class in the picture


def suspects(table: ScoreTable) -> tuple[str, Tensor]:
    """The rule that was asked, and (M,) images from the most suspicious one on.

    Raises:
        InputError: brought scores without either rule.
    """
    rule = "aum" if "aum" in table.columns else "loss"
    column = table.column(rule)
    hardness = column if RULES[rule].hard == "high" else -column
    return rule, ranked(hardness, "hard")[: max(1, round(SHARE * len(table)))]


def check_labels(folder: Path, table: ScoreTable, train: Dataset) -> Path:
    """Write `labels.csv`, the worst first, and `labels.png` of images, by the label's class.

    Returns:
        The list.

    Raises:
        InputError: as `suspects`.
    """
    rule, rows = suspects(table)
    folder.mkdir(parents=True, exist_ok=True)
    names, said = train.class_names, table.columns.get(PREDICTED)
    part = folder / "labels.csv.part"
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "hash", "label", "scorer_says", rule])
        for row in rows.tolist():
            other = "" if said is None or said[row] < 0 else names[int(said[row])]
            label, score = names[int(train.labels[row])], float(table.column(rule)[row])
            writer.writerow([row, int(train.hashes[row]), label, other, f"{score:.4f}"])
    os.replace(part, folder / "labels.csv")
    if train.kind == "vectors":
        return folder / "labels.csv"
    worst = [rows[train.labels[rows] == label][:DRAWN] for label in range(train.num_classes)]
    shown = torch.cat(worst)
    save_grid(
        folder / "labels.png",
        train.images[shown],
        train.labels[shown],
        tuple(f"labelled {name}" for name in names),
    )
    return folder / "labels.csv"
