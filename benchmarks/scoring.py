"""Loss scoring from files on disk, beside bare decoding, bare forward passes and the released way.

Scores a recipe's images as `latentdc prune` does for the first time: finds the files, decodes them
into the cache, checks the scorer on the test split and looks at every training image. Its time per
image is compared with the slower of

- decoding alone, file after file, and
- the network alone, on inputs that lie ready, at the batch size at which it is fastest.

The released way of scoring (github.com/Brian-Moser/prune_and_distill) takes one image at a time, is
without workers, and with gradients on. On a CPU times are the processor's, over all threads.

python benchmarks/scoring.py RECIPE prune.scorer.weights=FILE [key=value ...]
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from functools import partial

import datasets  # noqa: F401  (takes a second, however many images there are)
import torch
from measure import best_seconds
from torch.nn import functional as F

from latentdc import config, runtime
from latentdc.data.decode import decode
from latentdc.data.open import encoded_split, open_splits
from latentdc.images import from_uint8
from latentdc.preprocessing import Normalization
from latentdc.prune.score import score_dataset
from latentdc.prune.scorers import given_scorer
from latentdc.recipe import Prune, Recipe
from latentdc.runtime import device_name

BATCHES = (8, 32, 128)
SOME = 2048  # images of the bare passes
FEW = 64  # of the released way
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    recipe = config.load(Recipe, config.find(options.recipe, "recipes"), options.overrides)
    accelerator = runtime.start(threads=recipe.threads)
    device, scorer, data = accelerator.device, recipe.prune.scorer, recipe.data
    if scorer.weights is None:
        sys.exit("give the scorer's weights: prune.scorer.weights=FILE.")
    normalization = Normalization(scorer.mean or data.mean, scorer.std or data.std)
    train, test = open_splits(data)
    images = len(train) + len(test)
    classifier = given_scorer(scorer, train, normalization).to(device).eval()
    ready = classifier.prepare((from_uint8(train.images[:SOME]).to(device) + 1) / 2)
    files = encoded_split(data, "train")

    def decoding() -> None:
        for row in range(len(ready)):
            decode(files.read(row), data.resolution)

    def forward(batch: int) -> None:
        with torch.inference_mode(), accelerator.autocast():
            for some in ready.split(batch):
                classifier.network(some)

    def released() -> None:
        for row in range(FEW):
            levels, _ = decode(files.read(row), data.resolution)
            image = from_uint8(torch.from_numpy(levels))[None].to(device)
            F.cross_entropy(classifier(image), train.labels[row][None].to(device)).item()

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train, test = open_splits(replace(data, cache=folder))
            score_dataset(
                train,
                Prune(scorer=scorer),
                test,
                normalization=normalization,
                accelerator=accelerator,
            )

    passes = {f"forward passes of {batch}": partial(forward, batch) for batch in BATCHES}
    counts = {"decoding": len(ready), **dict.fromkeys(passes, len(ready))}
    counts |= {"the released way": FEW, "ours, from files": images}
    works = {"decoding": decoding, **passes, "the released way": released, "ours, from files": ours}
    seconds = best_seconds(works, REPEATS, device)
    each = {name: 1000 * seconds[name] / counts[name] for name in works}
    quickest = min(passes, key=each.__getitem__)
    slower = max(("decoding", quickest), key=each.__getitem__)
    print(f"machine: {device_name(device)}, {torch.get_num_threads()} threads")
    print(f"{scorer.network}, {images:,} images of {data.resolution} px, ms per image:")
    for name, value in each.items():
        print(f"{name:>24} {value:8.2f}")
    share, times = each[slower] / each["ours, from files"], each["the released way"]
    print(f"ours has {share:.0%} of the speed of the slower of both bare ways, {slower},")
    print(f"and is {times / each['ours, from files']:.1f} times as fast as the released way")


if __name__ == "__main__":
    main()
