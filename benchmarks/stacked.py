"""Seeds of one student, one after another and side by side: time, and operations that are sent off.

python benchmarks/stacked.py [STUDENT] [RESOLUTION] [--seeds 3] [--images 10 64 100] [--repeats 5]

Of forward and backward alone, with the networks stacked by `vmap` too, and of whole trainings as
`evaluate.together` has them: batches, DSA, loss and SGD. Times are of the CPU, of one thread.
Operations are those that torch dispatches and that compute (views are left out): on a GPU, each is
one launch of a kernel or more.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from measure import best_seconds
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from latentdc.data.dataset import Dataset
from latentdc.evaluate import EvalProtocol
from latentdc.evaluate.setting import Setting
from latentdc.evaluate.training import train_student, train_together
from latentdc.networks import new_network
from latentdc.networks.stacked import Stacked
from latentdc.preprocessing import Normalization
from latentdc.runtime import device_name
from latentdc.synthetic import SyntheticSet

CLASSES, STEPS = 10, 10
Ways = dict[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", nargs="?", default="convnet3@32")
    parser.add_argument("resolution", nargs="?", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, nargs="+", default=[10, 64, 100], help="of a step")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, seeds = torch.device("cpu"), options.seeds
    print(f"machine: {device_name(device)}, 1 thread, torch {torch.__version__}")
    print(f"{seeds} seeds of {options.student}, {options.resolution} px")
    print(f"{'what':<22} {'way':<12} images  ms per step and seed  ratio  operations")
    for images in options.images:
        size = (options.student, options.resolution, images)
        for what, ways, done in (
            ("forward and backward", steps(*size, device, seeds), seeds),
            ("training", trainings(*size, device, seeds), seeds * STEPS),
        ):
            times = best_seconds(ways, options.repeats, device)
            for way, work in ways.items():
                own, ratio = 1000 * times[way] / done, times["one by one"] / times[way]
                count = operations(work) / done
                print(
                    f"{what:<22} {way:<12} {images:6} {own:21.2f} {ratio:6.2f} {count:11.1f}",
                    flush=True,
                )


def steps(name: str, size: int, batch: int, device: torch.device, seeds: int = 3) -> Ways:
    """Forward and backward of each seed on a batch of its own."""
    students = [
        new_network(name, num_classes=CLASSES, resolution=size, seed=seed).to(device)
        for seed in range(seeds)
    ]
    images = torch.randn(seeds, batch, 3, size, size).to(device)
    labels = torch.randint(CLASSES, (seeds, batch)).to(device)
    weights, buffers = stack_module_state(students)
    weights = {key: weight.detach().requires_grad_() for key, weight in weights.items()}
    joined = Stacked(students)

    def loss(own: dict[str, Tensor], kept: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(students[0], (own, kept), (x,)), y)

    def one_by_one() -> None:
        for student, x, y in zip(students, images, labels, strict=True):
            torch.autograd.grad(F.cross_entropy(student(x), y), list(student.parameters()))

    def by_vmap() -> None:
        total = vmap(loss)(weights, buffers, images, labels).sum()
        torch.autograd.grad(total, list(weights.values()))

    def stacked() -> None:
        total = seeds * F.cross_entropy(joined(images.flatten(0, 1)), labels.flatten())
        torch.autograd.grad(total, list(joined.parameters()))

    return {"one by one": one_by_one, "vmap": by_vmap, "stacked": stacked}


def trainings(name: str, size: int, count: int, device: torch.device, seeds: int = 3) -> Ways:
    """Trainings of all seeds on a set of `count` images, a batch of all of them in each step."""
    levels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    names = tuple(map(str, range(CLASSES)))
    one = SyntheticSet(levels, torch.arange(count) % CLASSES, names)
    augment = "color_crop_cutout_flip_scale_rotate"
    protocol = EvalProtocol(
        name="bench", students=[name], steps=STEPS, batch=count, augment=augment
    )
    real = Dataset(levels, one.labels, names, torch.arange(count), "bench")
    accelerator = Accelerator(cpu=device.type == "cpu")
    setting = Setting(test=real, normalization=Normalization(), accelerator=accelerator)
    some = {"seeds": range(seeds), "soft": [None] * seeds}

    def alone() -> None:
        for seed in range(seeds):
            train_student(one, name, protocol, setting, seed=seed)

    return {
        "one by one": alone,
        "stacked": partial(train_together, [one] * seeds, name, protocol, setting, **some),
    }


class _Counter(TorchDispatchMode):
    """Counts operations that are no views of what is there."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def operations(work: Callable[[], object]) -> int:
    with _Counter() as counter:
        work()
    return counter.count


if __name__ == "__main__":
    main()
