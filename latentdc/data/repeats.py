"""Exact repeats of images, found by their content hashes: told when a data set is opened.

Where images are counted (budgets below everything, random rows, starts), different ones are.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentdc import ranks

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset


def different_rows(hashes: Tensor, labels: Tensor) -> Tensor:
    """(M,) ascending rows of different samples: of those with one content and one label the first.

    Args:
        hashes: (N,) int64 content hash of each sample.
        labels: (N,) int64.
    """
    if len(labels) == 0:
        return torch.arange(0)
    order = hashes.argsort(stable=True)
    order = order[labels[order].argsort(stable=True)]  # by label, then hash, then row
    contents, classes = hashes[order], labels[order]
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = (contents[1:] != contents[:-1]) | (classes[1:] != classes[:-1])
    rows: Tensor = order[new].sort().values
    return rows


def tell_repeats(train: "Dataset", test: "Dataset") -> None:
    """Print one line of counts on the main process, where there are repeats at all."""
    repeats, again = (len(d) - len(different_rows(d.hashes, d.labels)) for d in (train, test))
    contents = train.hashes.unique()
    pairs = torch.unique(torch.stack([train.hashes, train.labels]), dim=1)
    twice = int((pairs[0].unique(return_counts=True)[1] > 1).sum())
    leaked = int(torch.isin(test.hashes, contents).sum())
    found = {
        f"{leaked} of {len(test)} images of {test.name} are in {train.name} too": leaked,
        f"{repeats} of {len(train)} images of {train.name} repeat another of their class": repeats,
        f"{again} of {len(test)} images of {test.name} repeat another of their class": again,
        f"{twice} images of {train.name} stand under more than one label": twice,
    }
    told = [text for text, count in found.items() if count]
    if told:
        ranks.say("note", f"exact repeats: {'; '.join(told)}.")
