"""A stage of a run and what it takes, and the work of networks without weights.

Work is counted by torch's FLOP counter, in multiply-adds, and memory by the tensors that autograd
would keep, both on the `meta` device: nothing is decoded, trained or timed. A training step is
three forward passes, less what a gradient of the images would take, which is not computed; a
gradient at frozen weights is two. What has no network (decoding files, clustering, PNG) counts as
no work.
"""

import math
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentdc import estimates, ranks
from latentdc.divided import is_divided
from latentdc.draws import own_streams
from latentdc.errors import InputError
from latentdc.networks.build import trial_network, without_weights
from latentdc.priors.memory import kept_bytes
from latentdc.prune.scorers import published_weights
from latentdc.recipe import Scorer
from latentdc.recipe.labels import Teacher
from latentdc.recipe.networks import input_shape, pretrained

SETS = "the set and the next one"  # that replaces it whole


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        name: such as `scoring`.
        work: multiply-adds, of all processes; None where it cannot be known.
        told: what was counted, in words.
        disk: bytes by what they hold, at their most, such as two checkpoints and the next one.
        memory: bytes of one process at its most, weights, activations and latents.
        busiest: multiply-adds of the process that has most to do; None is an equal share of all.
    """

    name: str
    work: float | None
    told: str
    disk: Mapping[str, float] = field(default_factory=dict)
    memory: float = 0
    busiest: float | None = None

    def of_one(self, processes: int) -> float:
        """Multiply-adds of the process that has most to do."""
        return (self.work or 0) / processes if self.busiest is None else self.busiest

    def line(self) -> str:
        """Work, memory and disk in one line."""
        parts = ["unknown" if self.work is None else estimates.in_work(self.work)]
        if self.memory:
            parts.append(f"{estimates.in_bytes(self.memory)} of memory")
        return f"{', '.join(parts)} ({self.told})"


Counted = tuple[list[Stage], dict[str, str]]  # stages, and lines of `quantity: value`


class Sizes(NamedTuple):
    """What is known of the real images without opening them.

    Attributes:
        train: images of the training split.
        test: likewise.
        classes: of both.
        kept: images of the core set, about.
        side: pixels of a side, or values of a vector.
        values: numbers of an image or vector.
        smallest: training images of the smallest class; None where it is not known.
    """

    train: int
    test: int
    classes: int
    kept: int
    side: int
    values: int
    smallest: int | None = None


@dataclass(frozen=True)
class Student:
    """What a network without weights takes that sees images of one size.

    Attributes:
        forward: multiply-adds of one image.
        activations: bytes that backward keeps of one image.
        weights: numbers.
        features: values that its last linear layer sees; 0 without one.
        step: multiply-adds of a training step: forward, and back to the weights; 0 of one that is
            not trained.
    """

    forward: float
    activations: float
    weights: int
    features: int = 0
    step: float = 0

    def trained(self, batch: int, *, optimizer: str = "sgd", divided: int = 1) -> float:
        """Bytes of a training step: weights, gradients, what the optimiser keeps, activations.

        Processes that divide the batch send each other the gradients.
        """
        copies = (4 if optimizer == "adamw" else 3) + (divided > 1)
        return 4 * self.weights * copies + -(-batch // divided) * self.activations


@cache
def student(name: str, classes: int, size: int) -> Student:
    """The work of one of our networks, or of others', for images of `size` pixels or values."""
    network, device = trial_network(name, classes, size)
    with own_streams(), device:
        one, two = (torch.zeros(n, *input_shape(name, size)) for n in (1, 2))
        kept = kept_bytes(lambda: network.train()(two)) / 2  # batch norm refuses one value
        network.eval()
        forward, step = works(network, lambda: network(one))
    return _student(network, forward, kept, step)


def works(network: torch.nn.Module, call: Callable[[], object]) -> tuple[float, float]:
    """Multiply-adds of a forward pass, and of one and the way back to the weights.

    Back is twice as much, but for layers whose input needs no gradient, such as images.
    """
    first: list[Callable[[], object]] = []

    def see(layer: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = (*inputs, *named.values())
        if given and not any(isinstance(one, Tensor) and one.requires_grad for one in given):
            first.append(partial(layer, *inputs, **named))

    layers = [one for one in network.modules() if not [*one.children()]]
    hooks = [layer.register_forward_pre_hook(see, with_kwargs=True) for layer in layers]
    with torch.enable_grad():
        forward = estimates.multiply_adds(call)
    for hook in hooks:
        hook.remove()
    return forward, 3 * forward - sum(map(estimates.multiply_adds, first))


@cache
def published_student(name: str, size: int) -> Student:
    """Like `student`, of a classifier of torchvision as its weights have it; it is not trained."""
    from torchvision import models  # takes a second

    with own_streams(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of first weights, which are not looked at
        network: torch.nn.Module = without_weights(partial(models.get_model, name, weights=None))
    network.eval()
    image = torch.zeros(1, 3, size, size, device="meta")
    try:
        forward = estimates.multiply_adds(lambda: network(image))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"{name} with weights of torchvision fails on images of {size} px ({error}); name a "
            "resolution that it takes beside its weights."
        ) from error
    return _student(network, forward)


def _student(network: torch.nn.Module, forward: float, kept: float = 0, step: float = 0) -> Student:
    linear = [one.in_features for one in network.modules() if isinstance(one, torch.nn.Linear)]
    return Student(forward, kept, estimates.parameters(network), linear[-1] if linear else 0, step)


def classifier(given: Scorer | Teacher, classes: int, size: int | None = None) -> Student:
    """Like `student`, of a scorer or teacher; with weights of torchvision one of its networks.

    Those have 1,000 classes, and without a `size` see images of the size of their weights.
    """
    published = pretrained(given.weights)
    if published is None:
        assert size is not None
        return student(given.network, classes, size)
    weights = published_weights(given.network, published)
    return published_student(given.network, size or int(weights.transforms.keywords["crop_size"]))


@dataclass(frozen=True)
class Hardware:
    """What a dry run cannot know of the machine that a run is for.

    Attributes:
        processes: that work at once.
        memory: bytes of the device of each; None does not say.
        tflops: 10^12 operations a second that each does on networks, two for a multiply-add; None
            does not say, and no hours are told.
    """

    processes: int = 1
    memory: float | None = None
    tflops: float | None = None

    def __post_init__(self) -> None:
        for name in ("processes", "memory", "tflops"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"Hardware({name}=...) is a positive number, got {value}.")

    @classmethod
    def of(cls, options: Namespace, processes: int | None = None) -> "Hardware":
        """What a command is told; a recipe without `processes` has those that were started."""
        return cls(processes or ranks.processes(), options.device_memory, options.tflops)


class Shared(NamedTuple):
    """How a training that all processes wait for is shared.

    Attributes:
        told: words for it; none for one process.
        divided: processes that divide each batch; 1 where each of them, or one, sees it whole.
    """

    told: str
    divided: int

    def busiest(self, training: float, other: float, processes: int) -> float:
        """Multiply-adds of the busiest process: of a training, and of what all have a share in."""
        return training / self.divided + other / processes


def shared_training(
    network: str, side: int, batch: int, size: Sizes, hardware: Hardware, undivided: bool = False
) -> Shared:
    """A training on images of one side; `undivided` where it never is."""
    processes = hardware.processes
    if processes == 1:
        return Shared("", 1)
    if not undivided and is_divided(
        network, num_classes=size.classes, resolution=side, batch=batch, processes=processes
    ):
        return Shared(f"; {processes} processes divide each batch of {batch}", processes)
    return Shared(f"; the training is too short to divide among {processes} processes", 1)
