"""The training of a student, beside its bare steps and beside a plain loop, in one run.

python benchmarks/evaluation.py [STUDENT] [RESOLUTION] [STEPS]   # convnet3@32 32 30

The bare steps repeat forward, backward and update on one batch. The plain loop is what released
code does: PIL images through torchvision's transforms, one by one at each access, and the loss read
at each step. Times are of the CPU, of this thread alone, so that other programs count little.
"""

import sys
import time
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torchvision.transforms import v2

from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.settings import Views
from latentdc.evaluate.training import new_optimizer, train_student
from latentdc.images import IMAGENET_MEAN, IMAGENET_STD, Normalization
from latentdc.machine import device_name
from latentdc.networks import new_network

CLASSES, IMAGES, BATCH = 10, 512, 64


def main() -> None:
    torch.set_num_threads(1)
    name = (sys.argv[1:] or ["convnet3@32"])[0]
    size, steps = int((sys.argv[2:] or [32])[0]), int((sys.argv[3:] or [30])[0])
    protocol = EvalProtocol(
        name="benchmark",
        students=[name],
        steps=steps,
        batch=BATCH,
        optimizer="adamw",
        lr=0.001,
        decay="matrices",
        views=Views(crop=(0.08, 1.0), flip=True, mix="cutmix"),
    )
    images = torch.randint(256, (IMAGES, 3, size, size), dtype=torch.uint8)
    labels = torch.arange(IMAGES) % CLASSES
    student = new_network(name, num_classes=CLASSES, resolution=size, seed=0)
    optimizer = new_optimizer(student, name, protocol)
    pictures = [v2.functional.to_pil_image(image) for image in images]
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    inputs = torch.randn(BATCH, 3, size, size)

    def step(batch: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(student(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def bare() -> None:
        for _ in range(steps):
            step(inputs, labels[:BATCH])

    def plain() -> None:
        mix = v2.CutMix(num_classes=CLASSES)
        for _ in range(steps):
            rows = torch.randperm(IMAGES)[:BATCH].tolist()
            batch = torch.stack([transform(pictures[row]) for row in rows])
            step(*mix(batch, labels[rows])).item()

    def ours() -> None:
        train_student(
            images,
            labels,
            network=name,
            num_classes=CLASSES,
            protocol=protocol,
            seed=0,
            normalization=Normalization(),
            accelerator=Accelerator(cpu=True),
        )

    times = {
        key: seconds(work) for key, work in {"bare": bare, "ours": ours, "plain": plain}.items()
    }
    print(
        f"machine: {device_name(torch.device('cpu'))}, 1 thread; {name}, {size} px, {steps} steps"
    )
    print(f"bare steps: {1000 * times['bare'] / steps:.1f} ms each")
    for key in ("ours", "plain"):
        share = times["bare"] / times[key]
        print(f"{key}: {1000 * times[key] / steps:.1f} ms, {share:.0%} of the bare speed")


def seconds(work: Callable[[], None], repeats: int = 3) -> float:
    """CPU time of the fastest of some runs."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


if __name__ == "__main__":
    main()
