"""A whole evaluation, beside its bare steps and beside a plain loop, in one run.

python benchmarks/evaluation.py [STUDENT] [RESOLUTION] [STEPS]   # convnet3@32 32 60
python benchmarks/evaluation.py resnet18-bn@16 64 20             # from JPEG files of 224 px

All three train one student and test it once. The bare steps repeat forward, backward and update on
one batch, and the forward passes of the test. latentdc decodes every file once, then trains and
tests. The plain loop does what released code does: decoding and torchvision's transforms at each
access, the loss read at each step, test batches of a quarter and their hits counted one by one.
Up to 32 px files are PNG of that size. Times are of the CPU, of this thread alone, so that other
programs count little.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from measure import best_seconds
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from latentdc.data.dataset import Dataset
from latentdc.data.decode import decode
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.training import new_optimizer
from latentdc.networks import new_network
from latentdc.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Normalization
from latentdc.recipe.labels import Views
from latentdc.recipe.protocol import EvalProtocol
from latentdc.runtime import device_name

CPU = torch.device("cpu")
CLASSES, IMAGES, BATCH, REPEATS = 10, 256, 64, 2
LABELS = torch.arange(IMAGES) % CLASSES
FINISH = [
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
]


def main() -> None:
    torch.set_num_threads(1)
    name = (sys.argv[1:] or ["convnet3@32"])[0]
    size, steps = int((sys.argv[2:] or ["32"])[0]), int((sys.argv[3:] or ["60"])[0])
    protocol = budget(name, steps)
    with tempfile.TemporaryDirectory() as folder:
        train, test = (written(Path(folder) / split, size) for split in ("train", "test"))
        works = {
            "bare": lambda: bare(size, protocol, CPU),
            "latentdc": lambda: ours(train, test, size, protocol, CPU),
            "plain": lambda: plain(train, test, size, protocol, CPU),
        }
        times = best_seconds(works, REPEATS, CPU)
    print(
        f"machine: {device_name(CPU)}, 1 thread; {name}, {size} px, "
        f"{steps} steps of {BATCH}, a test of {IMAGES}"
    )
    for key, found in times.items():
        print(f"{key}: {found:.2f} s, {times['bare'] / found:.0%} of the bare speed")


def budget(name: str, steps: int) -> EvalProtocol:
    return EvalProtocol(
        name="benchmark",
        students=[name],
        seeds=1,
        steps=steps,
        batch=BATCH,
        optimizer="adamw",
        lr=0.001,
        decay="matrices",
        views=Views(crop=(0.08, 1.0), flip=True, mix="cutmix"),
    )


def written(folder: Path, size: int) -> list[Path]:
    """Files of coloured clouds: PNG of `size` up to 32 px, else JPEG of 224 px."""
    folder.mkdir()
    source = torch.Generator().manual_seed(len(folder.name))
    clouds = torch.randint(256, (IMAGES, 14, 14, 3), dtype=torch.uint8, generator=source)
    side, suffix = (size, "png") if size <= 32 else (224, "jpg")
    paths = [folder / f"{index:05d}.{suffix}" for index in range(IMAGES)]
    for path, cloud in zip(paths, clouds, strict=True):
        Image.fromarray(cloud.numpy()).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return paths


def bare(size: int, protocol: EvalProtocol, device: torch.device) -> None:
    step, student = trainer(size, protocol, device)
    inputs, labels = torch.randn(BATCH, 3, size, size).to(device), LABELS[:BATCH].to(device)
    for _ in range(protocol.steps or 0):
        step(inputs, labels)
    student.eval()
    with torch.no_grad():
        for _ in range(IMAGES // BATCH):
            student(inputs)


def ours(
    train: list[Path], test: list[Path], size: int, protocol: EvalProtocol, device: torch.device
) -> None:
    normalization, accelerator = Normalization(), Accelerator(cpu=device.type == "cpu")
    sets = (decoded(train, size), decoded(test, size))
    evaluate_sets(*sets, protocol, normalization=normalization, accelerator=accelerator)


def decoded(paths: list[Path], size: int) -> Dataset:
    return Dataset(
        images=torch.stack([torch.from_numpy(decode(p.read_bytes(), size)[0]) for p in paths]),
        labels=LABELS,
        class_names=tuple(map(str, range(CLASSES))),
        hashes=torch.arange(IMAGES),
        name="benchmark",
    )


def plain(
    train: list[Path], test: list[Path], size: int, protocol: EvalProtocol, device: torch.device
) -> None:
    step, student = trainer(size, protocol, device)
    mix = v2.CutMix(num_classes=CLASSES)
    learn = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *FINISH])
    look = v2.Compose([v2.Resize(size), v2.CenterCrop(size), *FINISH])
    for _ in range(protocol.steps or 0):
        rows = torch.randperm(IMAGES)[:BATCH]
        views, targets = mix(seen([train[row] for row in rows], learn), LABELS[rows])
        step(views.to(device), targets.to(device)).item()
    student.eval()
    hits = 0
    with torch.no_grad():
        for rows in torch.arange(IMAGES).split(BATCH // 4):
            named = student(seen([test[row] for row in rows], look).to(device)).argmax(dim=1)
            hits += sum(a.item() == b.item() for a, b in zip(named, LABELS[rows], strict=True))


def seen(paths: list[Path], transform: v2.Compose) -> Tensor:
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])


def trainer(
    size: int, protocol: EvalProtocol, device: torch.device
) -> tuple[Callable[[Tensor, Tensor], Tensor], torch.nn.Module]:
    name = protocol.students[0]
    student = new_network(name, num_classes=CLASSES, resolution=size, seed=0).to(device)
    optimizer = new_optimizer(student, name, protocol)

    def step(batch: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(student(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, student


if __name__ == "__main__":
    main()
