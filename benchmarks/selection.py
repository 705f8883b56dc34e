"""Time and memory of choosing 10 % by features: `selection.py [--classes 10 20 40] [--all 5000]`.

Random features of 512 numbers in half precision, memory-mapped, 1,280 images per class, chosen
class by class and, with `--all`, among all images together. Memory is the private part of what is
resident, without the pages of the mapped file: what a rule adds, and all of the process.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from latentdc.prune.features import Features
from latentdc.prune.rules.features import d2, herding, kcenter
from latentdc.prune.select import choose_rows
from latentdc.recipe import Prune

WIDTH, PER_CLASS, KEEP = 512, 1280, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 20, 40])
    parser.add_argument("--all", type=int, nargs="*", default=[], help="images chosen together")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for classes in options.classes:
            measure(Path(folder), torch.arange(classes * PER_CLASS) // PER_CLASS, "class")
        for images in options.all:
            measure(Path(folder), torch.zeros(images, dtype=torch.int64), "global")


def measure(folder: Path, labels: torch.Tensor, scope: str) -> None:
    array = mapped(folder / "features.npy", len(labels))
    hardness = torch.rand(len(labels), generator=torch.Generator().manual_seed(0))
    rules = {
        "herding": lambda rows, n: rows[herding(Features(array, rows), n)],
        "kcenter": lambda rows, n: rows[kcenter(Features(array, rows), n)],
        "d2": lambda rows, n: rows[d2(Features(array, rows), hardness[rows], n, 5, 0.1, 0.1)],
    }
    for name, choice in rules.items():
        before, began = private(), time.perf_counter()
        chosen = choose_rows(choice, labels, Prune(keep=KEEP, scope=scope))
        seconds = time.perf_counter() - began
        print(
            f"{name:>8} {scope:>6} {len(labels):8,} images, {len(chosen):7,} chosen: "
            f"{seconds:7.2f} s, {1000 * seconds / len(chosen):6.2f} ms each, "
            f"{(private() - before) / 1e6:5.0f} MB more, {private() / 1e6:5.0f} MB in all",
            flush=True,
        )


def mapped(path: Path, count: int) -> np.ndarray:
    array = np.lib.format.open_memmap(path, "w+", np.float16, (count, WIDTH))
    draws = np.random.default_rng(0)
    for start in range(0, count, PER_CLASS):
        rows = array[start : start + PER_CLASS]
        rows[:] = draws.normal(size=rows.shape)
    array.flush()
    return np.load(path, mmap_mode="r")


def private() -> int:
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


if __name__ == "__main__":
    main()
