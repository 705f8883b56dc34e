"""Three students of one network: forward and backward one after the other, and stacked by vmap.

python benchmarks/stacked.py [STUDENT] [RESOLUTION] [BATCH]   # convnet3@32 32 64

Seeds that are trained at once could share one call per layer. Times are of the CPU, of this thread.
"""

import sys
from collections.abc import Callable

import torch
from measure import best_seconds
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from latentdc.networks import new_network
from latentdc.runtime import device_name

SEEDS, CLASSES, REPEATS = 3, 10, 5


def main() -> None:
    torch.set_num_threads(1)
    name = (sys.argv[1:] or ["convnet3@32"])[0]
    size, batch = int((sys.argv[2:] or ["32"])[0]), int((sys.argv[3:] or ["64"])[0])
    device = torch.device("cpu")
    times = best_seconds(steps(name, size, batch, device), REPEATS, device)
    print(f"machine: {device_name(device)}, 1 thread; {SEEDS} {name}, {size} px")
    for key, found in times.items():
        print(f"{key}: {1000 * found:.0f} ms for {batch} images each")


def steps(
    name: str, size: int, batch: int, device: torch.device, seeds: int = SEEDS
) -> dict[str, Callable[[], None]]:
    students = [
        new_network(name, num_classes=CLASSES, resolution=size, seed=seed).to(device)
        for seed in range(seeds)
    ]
    images = torch.randn(seeds, batch, 3, size, size).to(device)
    labels = torch.randint(CLASSES, (seeds, batch)).to(device)
    weights, buffers = stack_module_state(students)
    weights = {key: weight.detach().requires_grad_() for key, weight in weights.items()}

    def loss(own: dict[str, Tensor], kept: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(students[0], (own, kept), (x,)), y)

    def one_by_one() -> None:
        for student, x, y in zip(students, images, labels, strict=True):
            torch.autograd.grad(F.cross_entropy(student(x), y), list(student.parameters()))

    def stacked() -> None:
        total = vmap(loss)(weights, buffers, images, labels).sum()
        torch.autograd.grad(total, list(weights.values()))

    return {"one by one": one_by_one, "stacked": stacked}


if __name__ == "__main__":
    main()
