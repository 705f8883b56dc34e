"""Accuracy of a distilled set against the number of distillation steps, all of one run.

Goes on from where it was stopped; what it has found lies in curve.json. The steps end with those
given; the recipe's own are ignored.

python benchmarks/curve.py FOLDER 0,100,200 dm_cifar10 ipc=10 evaluate.seeds=3
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from latentdc import config, runtime
from latentdc.checkpoint import in_folder
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.loading import recipe_protocol
from latentdc.methods import find_method
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.pictures import save_grid
from latentdc.recipe import Recipe
from latentdc.results.means import percent
from latentdc.run_parts import open_parts
from latentdc.runtime import device_name


def main() -> None:
    folder, stages = Path(sys.argv[1]), [int(steps) for steps in sys.argv[2].split(",")]
    recipe = config.load(Recipe, config.find(sys.argv[3], "recipes"), sys.argv[4:])
    if not recipe.prune.keeps_all:
        sys.exit("a curve is of the whole training set; leave prune out of the recipe.")
    accelerator = runtime.start(threads=recipe.threads, precision=recipe.precision)
    own = replace(recipe, distill=replace(recipe.distill, steps=stages[-1]))
    config.claim(own, folder, may_change=("distill.steps", "evaluate", "threads"))
    parts = open_parts(recipe, find_method(recipe.method.kind), accelerator)
    train, test, normalization = parts.train, parts.open_test(), parts.normalization
    wanted, spec = recipe.evaluate, recipe.distill
    protocol = recipe_protocol(wanted)
    kept = folder / "curve.json"
    found = json.loads(kept.read_text()) if kept.is_file() else {}
    for steps in stages:
        if str(steps) in found:
            show(steps, **found[str(steps)])
            continue
        began = time.process_time()
        context = Context(ipc=recipe.ipc, seed=recipe.seed, accelerator=accelerator)
        made = match(
            train,
            parts.prior,
            parts.objective,
            replace(spec, steps=steps),
            in_folder(folder, context),
        )
        took = time.process_time() - began
        save_grid(folder / f"step-{steps:05d}.png", made.images, made.labels, made.class_names)
        rate = made.learned_lr
        results = evaluate_sets(
            made,
            test,
            protocol.with_learned_lr(rate) if wanted.learned_lr else protocol,
            normalization=normalization,
            trainings=folder / "rows",
            accelerator=accelerator,
        )
        own = {result.student: list(result.accuracies) for result in results}
        hashed = results[0].protocol_hash
        found[str(steps)] = {"accuracies": own, "seconds": took, "protocol": hashed}
        if accelerator.is_main_process:
            kept.write_text(json.dumps(found, indent=1) + "\n")
            show(steps, **found[str(steps)])
    device = device_name(accelerator.device)
    print(f"{protocol.name}, {protocol.seeds} seeds, {device}")


def show(steps: int, accuracies: dict[str, list[float]], seconds: float, protocol: str) -> None:
    """A line for each student; seconds are of the processor, for the distillation alone."""
    for student, values in accuracies.items():
        score = percent(values)
        print(f"{steps:6d} steps  {student} {score}  {protocol}  ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
