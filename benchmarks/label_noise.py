"""How many of planted wrong labels a training's scores find: `label_noise.py RECIPE key=value ...`.

Gives `SHARE` of the training images another label, drawn by the recipe's seed, scores them as
`latentdc prune` would, and counts how many are among the hardest `SHARE * 2` of all images, by each
rule. Compare with chance, which is `SHARE * 2`.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from latentdc import config, runtime
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits, plain_preprocessing
from latentdc.draws import choose, generator
from latentdc.prune.score import score_dataset
from latentdc.recipe import Recipe
from latentdc.recipe.rules import RULES

SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--folder", type=Path, help="continues a killed scoring")
    options = parser.parse_args()
    recipe = config.load(Recipe, config.find(options.recipe, "recipes"), options.overrides)
    accelerator = runtime.start(threads=recipe.threads)
    train, test = open_splits(recipe.data)
    noisy, wrong = plant(train, recipe.seed)
    table = score_dataset(
        noisy,
        recipe.prune,
        test,
        normalization=plain_preprocessing(recipe.data, noisy),
        seed=recipe.seed,
        folder=options.folder,
        accelerator=accelerator,
    )
    print(f"{len(wrong)} of {len(train)} labels are wrong; found among the worst {2 * SHARE:.0%}:")
    for name in (name for name in table.columns if name in RULES):
        worst = table.hardness(name).argsort(stable=True, descending=True)[
            : round(2 * SHARE * len(train))
        ]
        print(f"{name:>18} {torch.isin(wrong, worst).float().mean():7.1%}")


def plant(train: Dataset, seed: int) -> tuple[Dataset, torch.Tensor]:
    """The data set with wrong labels, each other class being as likely, and their rows."""
    source = generator(seed, "label noise")
    wrong = choose(len(train), round(SHARE * len(train)), source)
    shift = torch.randint(1, train.num_classes, (len(wrong),), generator=source)
    labels = train.labels.clone()
    labels[wrong] = (labels[wrong] + shift) % train.num_classes
    return dataclasses.replace(train, labels=labels), wrong


if __name__ == "__main__":
    main()
