"""Small real runs whose scores are kept: what each does, and what is read from its folder.

`python -m tests.reference.runs` carries them out and rewrites scores.json; test_reference.py
carries them out and compares. Runs go through the commands alone, so that nothing inside
latentdc is named here.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch

from latentdc import SyntheticSet, cli

SCORES = Path(__file__).with_name("scores.json")
CIFAR10 = Path(__file__).resolve().parents[3] / "shared/data/cifar10/plain_text"
THREADS = 1
SMALL = """
name: small
students: [convnet3@16]
seeds: 2
steps: 100
batch: 64
optimizer: adamw
lr: 0.001
weight_decay: 0.01
views: {pad: 2, mix: cutmix}
"""
SWEEP = """
recipe: digits_ipc1
overrides:
  - prior.kind=pixel
  - prior.weights=null
  - objective.network=convnet3@16
  - distill.steps=20
  - prune.scorer.network=convnet3@8
  - evaluate.students=[convnet3@16]
  - evaluate.steps=100
  - evaluate.rows=[distilled, random]
  - threads=1
axes:
  objective:
    DM: []
    DC: [objective.kind=dc, distill.lr_z=0.1]
  kept:
    all: [prune.keep=1.0]
    easy: [prune.keep=0.4]
"""
SHORT_CIFAR10 = (
    "objective.network=convnet3@32",
    "objective.batch=64",
    "evaluate.students=[convnet3@16]",
    "evaluate.protocol=quick",
    "evaluate.seeds=2",
    "evaluate.steps=100",
    "ipc=10",
)


@dataclass(frozen=True)
class Run:
    """A run to repeat.

    Attributes:
        command: carries it out in the current folder.
        sets: folders of the synthetic sets that it leaves.
        results: its files of accuracies.
        real: whether it reads CIFAR-10.
    """

    command: Callable[[], None]
    sets: tuple[str, ...]
    results: tuple[str, ...]
    real: bool = False


def latentdc(*words: str) -> None:
    """One command, in this process and on one thread."""
    torch.set_num_threads(THREADS)
    cli.main(list(words))


def default_recipe() -> None:
    latentdc("distill", "digits_ipc1", "output=run", f"threads={THREADS}")


def part_of_cifar10() -> tuple[str, ...]:
    """The first 4,000 training and 1,000 test images of CIFAR-10, as a data folder."""
    folder = Path("cifar10")
    folder.mkdir()
    for split, shards, count in (("train", 2, 4000), ("test", 1, 1000)):
        table = pq.read_table(CIFAR10 / f"{split}-00000-of-{shards:05d}.parquet").slice(0, count)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return (f"data.source={folder}", "data.config=null", f"threads={THREADS}", *SHORT_CIFAR10)


def pixels_of_cifar10() -> None:
    latentdc("distill", "dm_cifar10", "output=run", "distill.steps=20", *part_of_cifar10())


def latents_of_cifar10() -> None:
    scorer = ("prune.scorer.network=convnet3@16", "prune.scorer.epochs=5", "prune.scorer.lr=0.05")
    latentdc(
        "distill", "cifar10_ipc10", "output=run", "distill.steps=5", *scorer, *part_of_cifar10()
    )


def sweep() -> None:
    Path("sweep.yaml").write_text(SWEEP)
    latentdc("sweep", "sweep.yaml", "output=run")


def mosaics() -> None:
    latentdc("sweep", "sweeps/pca", "output=run", f"threads={THREADS}")


def stored_labels() -> None:
    Path("small.yaml").write_text(SMALL)
    latentdc("prune", "digits_ipc1", "prune.keep=0.07", "output=run", f"threads={THREADS}")
    teacher = "{network: convnet3@16, epochs: 5, lr: 0.02}"
    labels = f"{{source: stored, epochs: 5, loss: kl, temperature: 4, teachers: [{teacher}]}}"
    latentdc(
        *("evaluate", "run", "protocol=small.yaml", "evaluate.rows=[distilled,random]"),
        f"protocol.labels={labels}",
        f"threads={THREADS}",
    )


DISTILLED = ("run/synthetic",), ("run/results.json",)  # what one run of a recipe leaves
RUNS = {
    "digits": Run(default_recipe, *DISTILLED),
    "cifar10_pixels": Run(pixels_of_cifar10, *DISTILLED, real=True),
    "cifar10_latents": Run(latents_of_cifar10, *DISTILLED, real=True),
    "sweep": Run(sweep, ("run/*/*/synthetic",), ("run/*/*/results.json",)),
    "mosaics": Run(mosaics, ("run/*/*/synthetic",), ("run/*/*/results.json",)),
    "stored_labels": Run(stored_labels, (), ("run/evaluation.json",)),
}


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        accuracies: in %, by set and student: one for each seed.
        images: SHA-256 of the images of each set.
    """

    accuracies: dict[str, list[float]]
    images: dict[str, str]


def carry_out(run: Run, folder: Path) -> Outcome:
    """The run's outcome, made in an empty folder.

    Args:
        run: to carry out.
        folder: the current one.
    """
    run.command()
    accuracies = {}
    for pattern in run.results:
        for path in sorted(folder.glob(pattern)):
            place = path.parent.relative_to(folder).as_posix()
            for row in rows(json.loads(path.read_text())):
                key = f"{place}: {row['set']}, {row['student']}"
                accuracies[key] = [round(100 * value, 2) for value in row["accuracies"]]
    images = {}
    for pattern in run.sets:
        for path in sorted(folder.glob(pattern)):
            pixels = SyntheticSet.from_pretrained(path).images.numpy().tobytes()
            images[path.relative_to(folder).as_posix()] = hashlib.sha256(pixels).hexdigest()
    return Outcome(accuracies, images)


def rows(content: object) -> list[dict]:
    """All rows of a file of results, wherever they stand in it."""
    if isinstance(content, dict):
        if "accuracies" in content:
            return [content]
        content = list(content.values())
    return [row for part in content for row in rows(part)] if type(content) is list else []


def machine() -> str:
    """What decides the last bits: torch, the processor, its vectors and the number of threads."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    cpu = f"{cpu} with {torch.backends.cpu.get_cpu_capability()}"
    return f"torch {torch.__version__.partition('+')[0]}, {cpu}, {THREADS} thread"


def main() -> None:
    """Carry the runs out, and rewrite scores.json."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help="runs to repeat; none are all")
    names = parser.parse_args().names or list(RUNS)
    kept = json.loads(SCORES.read_text()) if SCORES.is_file() else {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            outcome = carry_out(RUNS[name], Path(folder))
        kept.setdefault(name, {})[machine()] = asdict(outcome)
        SCORES.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
