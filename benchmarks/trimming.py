"""Effects of single real images: how well they rank, and what a trimmed step costs, on digits.

python benchmarks/trimming.py [IMAGES ...]

For each objective the effects of the images of three classes (`latentdc/objectives/effects.py`),
beside those found by leaving out one image after another: Spearman's rank correlation, and seconds
for one class. Then seconds of the objective in a step over all classes, averaged over the ten steps
from one look to the next. Seconds are of the process alone, so that other programs count little.
Last, how effects under `dm` differ between students, and what share is left out by their levels and
by their plain lengths.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.data.open import open_dataset
from latentdc.images import from_uint8
from latentdc.methods.real import RealBatches, Trimming, in_tails, relative_levels, updated
from latentdc.objectives.build import build_objective
from latentdc.objectives.classwise import Classwise
from latentdc.recipe import Data, Loops, ObjectiveSettings, Trim

T = TypeVar("T")
KINDS = {"dm": "rowwise", "dc, rowwise": "rowwise", "dc, cosine": "cosine", "dc, mse": "mse"}
CLASSES, SIZE, SHARE = (1, 3, 8), 16, 0.2


def objective(kind: str) -> Classwise:
    made = build_objective(
        ObjectiveSettings(
            kind="dm" if kind == "dm" else "dc",
            network="convnet3@32",
            distance=KINDS[kind],  # type: ignore[arg-type]
            loops=Loops(outer=1, inner=1),
        ),
        num_classes=10,
        resolution=SIZE,
    )
    assert isinstance(made, Classwise)
    return made


def synthetic(digits: Dataset, classes: tuple[int, ...], ipc: int) -> tuple[Tensor, Tensor]:
    rows = torch.cat([digits.members(label)[-ipc:] for label in classes])
    return from_uint8(digits.images[rows]), torch.tensor(classes).repeat_interleave(ipc)


def naive(made: Classwise, images: Tensor, labels: Tensor, real: RealBatches) -> list[Tensor]:
    """Lengths of the gradient's change as one image after another is left out."""

    def gradient(without: int) -> Tensor:
        def batch(step: int, label: int) -> Tensor:
            whole = real.whole(step, label)
            return whole[torch.arange(len(whole)) != without]

        leaf = images.clone().requires_grad_()
        made.accumulate(0, leaf, labels, batch)
        assert leaf.grad is not None
        return leaf.grad

    whole = gradient(-1)
    lengths = [(whole - gradient(x)).flatten(1).norm(dim=1) for x in range(real.batch)]
    return list(torch.stack(lengths).unbind(1))  # one image per class


def timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def rank_correlation(one: Tensor, other: Tensor) -> float:
    ranks = torch.stack([lengths.argsort().argsort().double() for lengths in (one, other)])
    return float(torch.corrcoef(ranks)[0, 1])


def compare(digits: Dataset, count: int) -> None:
    real = RealBatches(digits, range(10), batch=count, seed=0)
    images, labels = synthetic(digits, CLASSES, 1)
    for kind in KINDS:
        made = objective(kind)
        slow, wanted = timed(lambda made=made: naive(made, images, labels, real))  # type: ignore[misc]
        cells = [f"{slow / len(CLASSES):.2f} s"]
        for form in ("taylor", "bound"):
            told = made.effects(0, images, labels, real.whole, classes=CLASSES, form=form)
            seconds, found = timed(lambda told=told: list(told))  # type: ignore[misc]
            ranks = [rank_correlation(*pair) for pair in zip(found, wanted, strict=True)]
            cells.append(f"{sum(ranks) / len(ranks):.3f} | {seconds / len(CLASSES):.2f} s")
        print(f"| {kind} | {count} | {' | '.join(cells)} |", flush=True)


def step_costs(digits: Dataset, ipc: int) -> None:
    """Objective of all ten classes, 128 real images of each, whole and trimmed."""
    images, labels = synthetic(digits, tuple(range(10)), ipc)
    for kind in ("dm", "dc, rowwise"):
        cells = []
        for form in (None, "taylor", "bound"):
            made, real = objective(kind), RealBatches(digits, range(10), batch=128, seed=0)
            trim = Trim(share=SHARE, refresh=10, effect=form or "taylor")
            kept = Trimming(trim, made, real)

            def steps(
                made: Classwise = made, real: RealBatches = real, look: bool = form is not None,
                kept: Trimming = kept,
            ) -> None:  # fmt: skip
                for step in range(10):
                    if look:
                        kept.update(step, images, labels)
                    made.accumulate(step, images.clone().requires_grad_(), labels, real)

            cells.append(f"{timed(steps)[0] / 10:.2f} s")
        print(f"| {kind} | {ipc} | {' | '.join(cells)} |", flush=True)


def students(digits: Dataset, count: int = 25) -> None:
    """Effects of the same images in steps that each draw a student."""
    real, made = RealBatches(digits, CLASSES, batch=999, seed=0), objective("dm")
    images, labels = synthetic(digits, CLASSES, 1)
    steps = [
        list(made.effects(step, images, labels, whole(real), classes=CLASSES, form="taylor"))
        for step in range(count)
    ]
    for place, label in enumerate(CLASSES):
        lengths = torch.stack([step[place] for step in steps]).double()
        within = (lengths.std(1) / lengths.mean(1)).mean()
        between = lengths.mean(1).std() / lengths.mean()
        ranks = torch.corrcoef(lengths.argsort(1).argsort(1).double())
        alike = (ranks.sum() - count) / (count * (count - 1))
        cells = [f"{100 * within:.0f} %", f"{100 * between:.0f} %", f"{alike:.2f}"]
        for rows in (torch.stack([relative_levels(row) for row in lengths]), lengths):
            running, shares = None, []
            for row in rows:
                running = updated(running, row)
                shares.append(in_tails(row, running, SHARE).double().mean())
            share = torch.stack(shares)
            cells.append(f"{100 * share.mean():.0f} % ({100 * share.max():.0f} %)")
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


def whole(real: RealBatches) -> Callable[[int, int], Tensor]:
    """The same images in the same order in every step."""
    return lambda step, label: real.whole(0, label)


def main() -> None:
    torch.set_num_threads(1)
    digits = open_dataset(Data(resolution=SIZE), "train")
    print("| objective | images | naive | taylor: rank | time | bound: rank | time |")
    for count in map(int, sys.argv[1:] or ["16", "64"]):
        compare(digits, count)
    print("| objective | ipc | whole | taylor | bound |")
    for ipc in (1, 10):
        step_costs(digits, ipc)
    print("| class | among images | between students | ranks | levels: mean (most) | lengths |")
    students(digits)


if __name__ == "__main__":
    main()
