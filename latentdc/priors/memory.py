"""How decoding trades memory for work, settled once: as asked for, or by measurement.

| memory | forward of a step | kept for backward |
|---|---|---|
| `fast` | once | all activations of all steps |
| `low` | once, and once more in backward | what enters each step |

LD3M (Moser et al., https://arxiv.org/abs/2403.03881) names the trade; its released code runs the
network three times forward, a part of it four times. Both lead to the same gradients, but chunks of
images round differently: a run keeps its choice (`Plan`) with its checkpoints.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import psutil
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latentdc import ranks

SHARE = 0.6  # of the free memory that decoding may fill; the objective needs the rest
Memory = Literal["fast", "low"]
MemoryChoice = Literal["auto", "fast", "low"]


def run_steps(steps: Sequence[Callable[[Tensor], Tensor]], x: Tensor, *, memory: Memory) -> Tensor:
    """The last of the steps' results, each made from the one before.

    Args:
        steps: x -> the next x; without draws of their own, so that they can be run again.
        x: what enters the first step.
        memory: how the gradient is made.
    """
    for step in steps:
        if memory == "low":
            x = checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)
        else:
            x = step(x)
    return x


@dataclass(frozen=True)
class Plan:
    """How a prior decodes.

    Attributes:
        memory: way to the gradient.
        chunk: images that are decoded together; None takes all.
    """

    memory: Memory
    chunk: int | None = None

    def together(self, images: int) -> int:
        """How many of so many images are decoded together."""
        return self.chunk or max(images, 1)


FAST = Plan("fast")


@runtime_checkable
class Planned(Protocol):
    """A prior whose way to the gradient can be chosen.

    Attributes:
        plan: the choice; None asks for one.
    """

    plan: Plan | None

    @property
    def device(self) -> torch.device:
        """Where it decodes."""

    def needs(self) -> "Needs":
        """What backward keeps of one image, measured."""


@dataclass(frozen=True)
class Needs:
    """Bytes that backward keeps of one image.

    Attributes:
        whole: of everything, when all activations are kept.
        largest: of the largest step alone.
    """

    whole: int
    largest: int


def fixed_plan(memory: MemoryChoice, chunk: int) -> Plan | None:
    """The plan that a choice stands for; None where it must be measured."""
    if memory == "auto":
        return None
    return FAST if memory == "fast" else Plan(memory, chunk)


def choose_plan(needs: Needs, images: int, free: int) -> Plan:
    """Keep everything if it fits, else compute again, as many images at a time as do.

    Args:
        needs: of one image.
        images: that are decoded together.
        free: bytes.
    """
    budget = SHARE * free
    if images * needs.whole <= budget:
        return FAST
    return Plan("low", max(1, min(images, int(budget // max(needs.largest, 1)))))


def describe_plan(plan: Plan, needs: Needs, images: int, free: int) -> str:
    """One line for the user."""
    how = "keeps all activations" if plan.memory == "fast" else f"{plan.chunk} at a time"
    return (
        f"{plan.memory} ({how}) for {images} images of {needs.whole / 1e6:,.0f} MB each, "
        f"{free / 1e9:.1f} GB free"
    )


def needed_bytes(steps: Sequence[tuple[Callable[[], Tensor], int]]) -> Needs:
    """What backward needs of steps that are run on one image, each with its number of repeats."""
    sizes = [(step_bytes(step), repeats) for step, repeats in steps]
    return Needs(
        whole=sum(size * repeats for size, repeats in sizes), largest=max(s for s, _ in sizes)
    )


def step_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes of one step and its backward: on a GPU the peak, elsewhere what autograd keeps."""
    if torch.cuda.is_available() and (device := forward().device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        forward().sum().backward()
        return torch.cuda.max_memory_allocated(device) - before
    return kept_bytes(forward)


def kept_bytes(forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps of a forward pass for its backward, weights left out."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        owner = tensor._base if tensor._base is not None else tensor
        if not isinstance(owner, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        result = forward()  # held until all is counted, so that no address is used twice
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return size


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take; processes of a machine share its memory."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available) // ranks.local_processes()
