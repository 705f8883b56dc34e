"""Cost of comparing classes: images cut as latentdc does it, whole class by whole class, by vmap.

CPU time of the objective's part of a step, forward and backward, on random images.

python benchmarks/matching.py [convnet3 32 | convnet5 128] [classes 10] [real images of each 256]
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.objectives.distribution import match_distributions
from latentdc.objectives.gradient import match_gradients, rowwise_cosine
from latentdc.runtime import device_name, use_threads

Images = tuple[Tensor, ...]  # of each class
Way = Callable[[Network, Images, Images], Tensor]


def dm_whole(student: Network, real: Images, synthetic: Images) -> Tensor:
    total = torch.zeros(())
    for genuine, made in zip(real, synthetic, strict=True):
        with torch.no_grad():
            target = student.features(genuine).mean(0)
        total = total + (student.features(made).mean(0) - target).square().sum()
    return total


def dc_whole(student: Network, real: Images, synthetic: Images) -> Tensor:
    weights, total = list(student.parameters()), torch.zeros(())
    for label, parts in enumerate(zip(real, synthetic, strict=True)):
        wanted, given = (
            torch.autograd.grad(
                F.cross_entropy(student(images), torch.full((len(images),), label)),
                weights,
                create_graph=synthetic_side,
            )
            for images, synthetic_side in zip(parts, (False, True), strict=True)
        )
        total = total + rowwise_cosine(given, wanted)
    return total


def dc_vmap(student: Network, real: Images, synthetic: Images) -> Tensor:
    weights = {name: p.detach() for name, p in student.named_parameters()}
    labels = torch.arange(len(real))

    def loss(weights: dict[str, Tensor], images: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(student, weights, (images,))
        return F.cross_entropy(logits, label.expand(len(images)))

    gradients = vmap(grad(loss), (None, 0, 0))
    with torch.no_grad():
        wanted = gradients(weights, torch.stack(real), labels)
    given = gradients(weights, torch.stack(synthetic), labels)
    sides = [list(zip(*side.values(), strict=True)) for side in (given, wanted)]
    return sum((rowwise_cosine(a, b) for a, b in zip(*sides, strict=True)), torch.zeros(()))


WAYS: dict[str, dict[str, Way]] = {
    "dm": {
        "latentdc": lambda s, r, x: match_distributions(s, r, x, range(len(x))),
        "class by class": dm_whole,
    },
    "dc": {
        "latentdc": lambda s, r, x: match_gradients(s, r, x, range(len(x))),
        "class by class": dc_whole,
        "vmap": dc_vmap,
    },
}


def timed(way: Way, student: Network, real: Images, start: Tensor) -> tuple[float, Tensor]:
    """Least CPU seconds of two goes, and the gradient."""
    best, gradient = float("inf"), start
    for _ in range(2):
        leaf, began = start.clone().requires_grad_(), time.process_time()
        (gradient,) = torch.autograd.grad(way(student, real, leaf.unbind()), leaf)
        best = min(best, time.process_time() - began)
    return best, gradient


def main() -> None:
    name, *numbers = sys.argv[1:] or ["convnet3", "32"]
    resolution, classes, each = (list(map(int, numbers)) + [10, 256][len(numbers) - 1 :])[:3]
    use_threads(1)
    student = new_network(name, 0, num_classes=classes, resolution=resolution, seed=0).eval()
    shape, source = (3, resolution, resolution), torch.Generator().manual_seed(0)
    real = torch.randn(classes, each, *shape, generator=source).unbind()
    print(f"{name}, {resolution} px, {classes} classes, {each} real images of each")
    for kind, ways in WAYS.items():
        for ipc in (1, 10):
            start = torch.randn(classes, ipc, *shape, generator=source)
            done = {label: timed(way, student, real, start) for label, way in ways.items()}
            ours = done["latentdc"][1]
            for label, (seconds, gradient) in done.items():
                off = float((gradient - ours).norm() / ours.norm())
                print(f"{kind} ipc {ipc:2d}  {label:14s} {seconds:7.2f} s  {off:.0e}", flush=True)
    print(device_name(torch.device("cpu")))


if __name__ == "__main__":
    main()
