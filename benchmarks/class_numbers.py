"""How often the check of class numbers refuses or warns, on real images with more and more noise.

python benchmarks/class_numbers.py FOLDER    # a folder with train/ and val/, such as ImageNette

Sets of 1 to 45 test images per class are drawn, 20 of each size and noise. Each is checked with
right numbers, of which a random order is offered as another reading, and with numbers in a random
order, of which the right one is (`listed`) or is not (`unlisted`) offered.
"""

import sys

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.open import open_splits
from latentdc.evaluate.class_numbers import (
    beyond_chance,
    clearly_better,
    exchanged,
    mostly_exchanged,
    open_classifier,
)
from latentdc.evaluate.setting import Setting
from latentdc.images import fetch
from latentdc.preprocessing import Normalization
from latentdc.recipe import Data, Recipe

TRIALS = 20


def warned(named: Tensor, labels: Tensor, classes: int) -> bool:
    """Whether a line is printed where no listed reading is better."""
    order = exchanged(named, labels, classes)
    return order is not None or not beyond_chance(named, labels, classes)


def refused(named: Tensor, labels: Tensor, classes: int) -> bool:
    """Whether the images show an order of their own."""
    order = exchanged(named, labels, classes)
    return order is not None and mostly_exchanged(order, labels)


def main(source: str) -> None:
    """Print a line for each size and noise."""
    accelerator = Accelerator()
    recipe = Recipe(data=Data(source=source, resolution=64, test="val"))
    train, test = open_splits(recipe.data)
    setting = Setting(test=test, normalization=Normalization(), accelerator=accelerator)
    found = open_classifier(recipe.data, recipe.prune.scorer, [], train, setting)
    assert found is not None, "the small network learns these images"
    network, classes = found[1], test.num_classes
    draws = torch.Generator().manual_seed(0)
    print("ipc  noise  right: refused, warned  wrong: listed refused, unlisted warned")
    for ipc in (1, 2, 5, 10, 45):
        for noise in (0.0, 0.3, 0.6, 1.0, 2.0):
            counts = [0, 0, 0, 0]
            for _ in range(TRIALS):
                some = [
                    members[torch.randperm(len(members), generator=draws)[:ipc]]
                    for members in map(test.members, range(classes))
                ]
                rows = torch.cat(some)
                images, labels = fetch(test.images, rows, accelerator.device), test.labels[rows]
                with torch.no_grad():
                    noisy = images + noise * torch.randn(images.shape, generator=draws)
                    named = network(noisy).argmax(dim=1)
                order = torch.randperm(classes, generator=draws)
                counts[0] += clearly_better(named, labels, order) or refused(named, labels, classes)
                counts[1] += warned(named, labels, classes)
                counts[2] += clearly_better(named, order[labels], order.argsort())
                counts[3] += warned(named, order[labels], classes)
            print(f"{ipc:3}  {noise:5}  {counts[0]:14}, {counts[1]:6}", end="")
            print(f"  {counts[2]:21}, {counts[3]:15}  of {TRIALS}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
