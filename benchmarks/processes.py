"""Two processes of one thread beside two independent runs of one thread, in steps per second.

Both are started by turns, several times, and the best stretch of steps of each counts: what other
programs take away at times is taken from none of them for good. On a busy machine trust the rate
by processor time, which leaves out what a process waits for, other programs and its twin alike.

python benchmarks/processes.py [RECIPE] [key=value ...]     # default: digits_ipc1
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS, STRETCHES, STEPS = 3, 4, 5  # steps in a stretch, after each of which processes meet
ALONE = [sys.executable]
PAIR = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
Rates = tuple[float, float]  # steps per second of wall time, and of processor time


def together(commands: list[list[str]], recipe: list[str]) -> Rates:
    """The joint rates of runs that are started at the same time, each over all classes."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(index) for index in range(len(commands))]
        runs = []
        for command, folder in zip(commands, folders, strict=True):
            folder.mkdir()
            words = [*command, __file__, "--measure", str(folder), *recipe]
            runs.append(subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.DEVNULL))
        if any([run.wait() for run in runs]):  # all of them, before anything is said
            sys.exit(f"a run failed: {' '.join(recipe)}")
        slowest = [
            [max(times) for times in zip(*map(read, folder.iterdir()), strict=True)]
            for folder in folders
        ]
        wall, processor = (sum(1 / times[kind] for times in slowest) for kind in (0, 1))
        return wall, processor


def read(path: Path) -> list[float]:
    """Seconds per step of one process: wall and processor time of its best stretch."""
    times: list[float] = json.loads(path.read_text())
    return times


def measure(folder: Path, words: list[str]) -> None:
    """Distil with one thread and note the times of this process."""
    import torch
    from accelerate import Accelerator

    from latentdc import config
    from latentdc.data.open import open_splits, preprocessing
    from latentdc.methods.latents import initial_latents, own_classes
    from latentdc.methods.loop import Work, match_steps
    from latentdc.methods.rates import make_optimizer
    from latentdc.methods.real import RealBatches
    from latentdc.objectives.build import build_objective
    from latentdc.priors.load import load_prior
    from latentdc.recipe import Recipe

    torch.set_num_threads(1)
    recipe = config.load(Recipe, config.find(words[0], "recipes"), words[1:])
    accelerator = Accelerator(cpu=True)
    train, _ = open_splits(recipe.data)
    prior = load_prior(recipe.prior, resolution=recipe.data.resolution, seed=recipe.seed)
    classes = own_classes(train.num_classes, accelerator.process_index, accelerator.num_processes)
    latents = initial_latents(train, prior, classes, ipc=recipe.ipc, seed=recipe.seed)
    objective = build_objective(
        recipe.objective,
        num_classes=train.num_classes,
        resolution=train.resolution,
        normalization=preprocessing(recipe.data, train),
        seed=recipe.seed,
    )
    real = RealBatches(train, classes, batch=recipe.objective.batch, seed=recipe.seed)
    optimizer = make_optimizer(latents, recipe.distill)
    everything = range(train.num_classes)
    work = Work(latents, prior, objective, real, optimizer, accelerator, lambda _: everything)
    steps = match_steps(work, 0, STEPS * (STRETCHES + 1))
    walls, processors = [], []
    for _ in range(STRETCHES + 1):
        accelerator.wait_for_everyone()
        wall, processor = time.perf_counter(), time.process_time()
        loss = sum(next(steps).loss for _ in range(STEPS))
        accelerator.reduce(loss)
        walls.append((time.perf_counter() - wall) / STEPS)
        processors.append((time.process_time() - processor) / STEPS)
    best = min(walls[1:]), min(processors[1:])
    (folder / f"{accelerator.process_index}.json").write_text(json.dumps(best))


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        return measure(Path(sys.argv[2]), sys.argv[3:])
    recipe = sys.argv[1:] or ["digits_ipc1"]
    alone, shared = [], []
    print("steps per second, by wall and by processor time:")
    for _ in range(ROUNDS):
        alone.append(together([ALONE, ALONE], recipe))
        shared.append(together([PAIR], recipe))
        print(
            "  two runs {:.3f} {:.3f}, two processes {:.3f} {:.3f}".format(*alone[-1], *shared[-1])
        )
    for kind, name in enumerate(("wall", "processor")):
        runs, pair = max(r[kind] for r in alone), max(r[kind] for r in shared)
        print(f"by {name} time: two runs {runs:.3f}, two processes {pair:.3f}: {pair / runs:.2f}")


if __name__ == "__main__":
    main()
