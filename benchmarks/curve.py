"""Accuracy of a distilled set against the number of distillation steps, all of one run.

Goes on from where it was stopped. The steps end with those given; the recipe's own are ignored.

python benchmarks/curve.py FOLDER 0,100,200 dm_cifar10 ipc=10 evaluate.seeds=3
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from latentdc import config, launch
from latentdc.data.open import open_splits
from latentdc.data.preprocessing import preprocessing
from latentdc.distill.dataset import distill_dataset
from latentdc.distill.parts import build_prior, recipe_objective
from latentdc.evaluate import evaluate, load_protocol
from latentdc.machine import device_name
from latentdc.recipe import Recipe
from latentdc.report import save_grid


def main() -> None:
    folder, stages = Path(sys.argv[1]), [int(steps) for steps in sys.argv[2].split(",")]
    recipe = config.load(Recipe, config.find(sys.argv[3], "recipes"), sys.argv[4:])
    if not recipe.prune.keeps_all:
        sys.exit("a curve is of the whole training set; leave prune out of the recipe.")
    accelerator = launch.start(threads=recipe.threads, precision=recipe.precision)
    own = replace(recipe, distill=replace(recipe.distill, steps=stages[-1]))
    config.claim(own, folder, may_change=("distill.steps", "evaluate", "threads"))
    train, test = open_splits(recipe.data)
    normalization = preprocessing(recipe.data, train)
    wanted, spec = recipe.evaluate, recipe.distill
    protocol = load_protocol(
        wanted.protocol, students=wanted.students, seeds=wanted.seeds, steps=wanted.steps
    )
    for steps in stages:
        began = time.process_time()
        made = distill_dataset(
            train,
            build_prior(recipe, accelerator.device, normalization=normalization),
            recipe_objective(recipe, train, normalization),
            ipc=recipe.ipc,
            steps=steps,
            lr_z=spec.lr_z,
            lr_c=spec.lr_c,
            momentum=spec.momentum,
            batch=recipe.objective.batch,
            from_noise=spec.init == "noise",
            seed=recipe.seed,
            folder=folder,
            checkpoint_every=spec.checkpoint_every,
            accelerator=accelerator,
        )
        took = time.process_time() - began
        save_grid(folder / f"step-{steps:05d}.png", made.images, made.labels, made.class_names)
        rate = made.learned_lr
        score = evaluate(
            made,
            test,
            protocol.with_learned_lr(rate) if wanted.learned_lr else protocol,
            normalization=normalization,
            rows=folder / "rows",
            accelerator=accelerator,
        )
        for student in score.accuracies:
            mean, std = 100 * score.mean(student), 100 * (score.std(student) or 0)
            print(
                f"{steps:6d} steps  {student} {mean:.1f} ± {std:.1f}  ({took:.0f} s of CPU)",
                flush=True,
            )
    device = device_name(accelerator.device)
    print(f"{protocol.name} ({score.protocol.hash}), {protocol.seeds} seeds, {device}")


if __name__ == "__main__":
    main()
