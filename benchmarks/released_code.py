"""Each step beside the schedule of the code that its authors released, as released / ours.

In one run and in turns: time, the peak of memory, and how far the two gradients are apart. What is
called released is written out here as their code does it, on the same networks and images:

- `ld3m`: decoding and back, from `released.py`.
- `dm`, `dc`: class by class, the losses of all classes summed before one backward.
- `mtt unrolled`: one flat vector of weights, the graphs of all inner steps kept together.
- `mtt constant`: two passes over the inner steps, as in TESLA; `mtt replayed`: likewise, the second
  one backwards and through the weights too, which makes it exact.
- `evaluation`: a training and test on image files by PIL and torchvision, from `evaluation.py`.

python benchmarks/released_code.py [PAIR ...] [--repeats 3] [--network convnet3@32] [--tiny]
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import evaluation
import torch
from measure import best_seconds, peak_bytes
from models import MODELS
from released import Released
from steps import inputs, our_step, released_step
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from latentdc import draws
from latentdc.networks.build import new_network
from latentdc.objectives.build import build_objective
from latentdc.objectives.unroll import FORMS
from latentdc.preprocessing import Normalization
from latentdc.priors.memory import Plan
from latentdc.recipe import Loops, ObjectiveSettings
from latentdc.runtime import device_name

CPU, SEE, LR = torch.device("cpu"), Normalization(), 0.01


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        network: student.
        resolution: of the images.
        classes: of the set.
        ipc: synthetic images of each.
        batch: real images of each.
        inner: steps of a trajectory, and of denoising.
        images: that a prior decodes.
        steps: of a whole evaluation.
    """

    network: str = "convnet3@32"
    resolution: int = 32
    classes: int = 10
    ipc: int = 10
    batch: int = 64
    inner: int = 10
    images: int = 10
    steps: int = 30


TINY = Size("convnet3@8", 8, 3, 2, 4, 3, 2, 2)


@dataclass(frozen=True)
class Pair:
    """Two ways to do one thing; both give the gradient at the synthetic images, or nothing."""

    name: str
    released: Callable[[], Tensor | None]
    ours: Callable[[], Tensor | None]


def decoding(size: Size) -> Iterator[Pair]:
    model = MODELS["digits"]
    prior = model.make().to(CPU).prior(model.resolution, steps=size.inner)
    plain, given = Released(model.make().to(CPU), steps=size.inner), inputs(prior, size.images)

    def gradient(step: Callable[[], None]) -> Tensor:
        step()
        assert given[0].grad is not None
        return given[0].grad.clone()

    for plan in (Plan("fast"), Plan("low", size.images)):
        yield Pair(
            f"ld3m {plan.memory}",
            partial(gradient, partial(released_step, plain, given)),
            partial(gradient, partial(our_step, prior, plan, given)),
        )


def classwise(size: Size) -> Iterator[Pair]:
    source, side = draws.generator(0, "released"), size.resolution
    real = torch.rand(size.classes, size.batch, 3, side, side, generator=source) * 2 - 1
    start = torch.rand(size.classes * size.ipc, 3, side, side, generator=source) * 2 - 1
    labels = torch.arange(size.classes).repeat_interleave(size.ipc)
    sizes = {"num_classes": size.classes, "resolution": side}
    for kind, plain in (("dm", dm_loss), ("dc", dc_loss)):
        settings = ObjectiveSettings(
            kind=kind, network=size.network, augment=None, loops=Loops(outer=1, inner=1)
        )
        objective = build_objective(settings, **sizes, normalization=SEE)

        def ours(objective=objective) -> Tensor:
            leaf = start.clone().requires_grad_()
            objective.accumulate(0, leaf, labels, lambda step, label: real[label])
            return leaf.grad

        def released(plain=plain) -> Tensor:
            student = new_network(size.network, 0, **sizes, seed=0).eval()
            leaf = start.clone().requires_grad_()
            total = torch.zeros(())
            for label, part in enumerate(leaf.split(size.ipc)):
                total = total + plain(student, SEE(real[label]), SEE(part), label)
            return torch.autograd.grad(total, leaf)[0]

        yield Pair(kind, released, ours)


def dm_loss(student: nn.Module, real: Tensor, synthetic: Tensor, label: int) -> Tensor:
    """https://github.com/VICO-UoE/DatasetCondensation, main_DM.py."""
    student.requires_grad_(False)
    target = student.features(real).detach()
    return (target.mean(dim=0) - student.features(synthetic).mean(dim=0)).square().sum()


def dc_loss(student: nn.Module, real: Tensor, synthetic: Tensor, label: int) -> Tensor:
    """https://github.com/VICO-UoE/DatasetCondensation, main.py, with its distance by rows."""
    weights = list(student.parameters())

    def gradients(images: Tensor, keep: bool) -> tuple[Tensor, ...]:
        loss = F.cross_entropy(student(images), torch.full((len(images),), label))
        return torch.autograd.grad(loss, weights, create_graph=keep)

    targets = [gradient.detach().clone() for gradient in gradients(real, False)]
    total = torch.zeros(())
    for given, target in zip(gradients(synthetic, True), targets, strict=True):
        if given.ndim > 1:
            given, target = given.flatten(1), target.flatten(1)
            norms = given.norm(dim=-1) * target.norm(dim=-1) + 1e-6
            total = total + (1 - (given * target).sum(dim=-1) / norms).sum()
    return total


def trajectories(size: Size) -> Iterator[Pair]:
    source, side = draws.generator(0, "released"), size.resolution
    start = torch.rand(size.classes * size.ipc, 3, side, side, generator=source) * 2 - 1
    labels = torch.arange(size.classes).repeat_interleave(size.ipc)
    sizes = {"num_classes": size.classes, "resolution": side}
    student, end = (new_network(size.network, run, **sizes, seed=0).eval() for run in (0, 1))
    first, last = ({n: p.detach() for n, p in net.named_parameters()} for net in (student, end))

    def loss(weights: dict[str, Tensor], images: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(student, weights, (SEE(images),)), labels)

    def of_flat(flat: Tensor, images: Tensor) -> Tensor:
        parts = flat.split([weight.numel() for weight in first.values()])
        named = zip(first.items(), parts, strict=True)
        return loss({name: part.view(weight.shape) for (name, weight), part in named}, images)

    flat, goal = (torch.cat([w.flatten() for w in side.values()]) for side in (first, last))
    plain = {"unrolled": unrolled, "replayed": backwards, "constant": two_passes}
    for form, matched in FORMS.items():
        yield Pair(
            f"mtt {form}",
            partial(plain[form], of_flat, flat, goal, start, size.inner),
            lambda matched=matched: (
                matched([loss] * size.inner, first, last, start, torch.tensor(LR)).images
            ),
        )


Loss = Callable[[Tensor, Tensor], Tensor]  # of flat weights and images


def unrolled(loss: Loss, start: Tensor, goal: Tensor, images: Tensor, steps: int) -> Tensor:
    """https://github.com/GeorgeCazenavette/mtt-distillation, distill.py."""
    leaf, path = images.clone().requires_grad_(), [start.clone().requires_grad_()]
    for _ in range(steps):
        gradient = torch.autograd.grad(loss(path[-1], leaf), path[-1], create_graph=True)[0]
        path.append(path[-1] - LR * gradient)
    left = F.mse_loss(path[-1], goal, reduction="sum")
    left = left / F.mse_loss(start, goal, reduction="sum")
    return torch.autograd.grad(left, leaf)[0]


def taken(loss: Loss, start: Tensor, goal: Tensor, images: Tensor, steps: int) -> list[Tensor]:
    """The weights after each step, and what moves the distance at the last ones."""
    path = [start]
    for _ in range(steps):
        weights = path[-1].clone().requires_grad_()
        path.append(path[-1] - LR * torch.autograd.grad(loss(weights, images), weights)[0])
    return [*path, 2 * (path[-1] - goal) / F.mse_loss(start, goal, reduction="sum")]


def two_passes(loss: Loss, start: Tensor, goal: Tensor, images: Tensor, steps: int) -> Tensor:
    """https://arxiv.org/abs/2211.10586, Alg. 1: the weights are kept, no graph is."""
    *path, ahead = taken(loss, start, goal, images, steps)
    total = torch.zeros_like(images)
    for weights in path[:-1]:
        leaf, weights = images.clone().requires_grad_(), weights.clone().requires_grad_()
        gradient = torch.autograd.grad(loss(weights, leaf), weights, create_graph=True)[0]
        total -= LR * torch.autograd.grad(gradient.dot(ahead), leaf)[0]
    return total


def backwards(loss: Loss, start: Tensor, goal: Tensor, images: Tensor, steps: int) -> Tensor:
    """The same from the last step to the first, with what each does to the ones after it."""
    *path, ahead = taken(loss, start, goal, images, steps)
    total = torch.zeros_like(images)
    for weights in reversed(path[:-1]):
        leaf, weights = images.clone().requires_grad_(), weights.clone().requires_grad_()
        gradient = torch.autograd.grad(loss(weights, leaf), weights, create_graph=True)[0]
        towards, back = torch.autograd.grad(gradient.dot(ahead), [leaf, weights])
        total -= LR * towards
        ahead = ahead - LR * back
    return total


def evaluations(size: Size, folder: Path) -> Iterator[Pair]:
    protocol = evaluation.budget("convnet3@32" if size.resolution > 8 else size.network, size.steps)
    side = max(16, size.resolution)
    train, test = (evaluation.written(folder / split, side) for split in ("train", "test"))
    yield Pair(
        "evaluation",
        lambda: evaluation.plain(train, test, side, protocol, CPU),
        lambda: evaluation.ours(train, test, side, protocol, CPU),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", help="names, or how they begin; all without")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--network", default=Size.network)
    parser.add_argument("--tiny", action="store_true", help="whether it runs, not how fast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = TINY if options.tiny else Size(options.network)
    print(f"machine: {device_name(CPU)}, 1 thread, torch {torch.__version__}; {size}")
    print(f"{'pair':<16} released s   ours s  ratio  released MB  ours MB  gradients apart")
    with tempfile.TemporaryDirectory() as folder:
        for pairs in (
            decoding(size), classwise(size), trajectories(size), evaluations(size, Path(folder))
        ):  # fmt: skip
            for pair in pairs:
                if not options.pairs or pair.name.startswith(tuple(options.pairs)):
                    measure(pair, options.repeats)


def measure(pair: Pair, repeats: int) -> None:
    works = {"released": pair.released, "ours": pair.ours}
    found = [work() for work in works.values()]  # warms up too
    times = best_seconds(works, repeats, CPU)
    peaks = [peak_bytes(work, CPU) / 1e6 for work in works.values()]
    ratio = times["released"] / times["ours"]
    apart = "-"
    if found[0] is not None and found[1] is not None:
        apart = f"{float((found[1] - found[0]).norm() / found[0].norm()):.1e}"
    print(
        f"{pair.name:<16} {times['released']:10.3f} {times['ours']:8.3f} {ratio:6.2f} "
        f"{peaks[0]:12.1f} {peaks[1]:8.1f}  {apart}",
        flush=True,
    )


if __name__ == "__main__":
    main()
