"""How decoding trades memory for work, settled once: as asked for, or by measurement.

| memory | forward of a step | kept for backward |
|---|---|---|
| `fast` | once | all activations of all steps |
| `mixed` | once, and once more in backward where they are not kept | those of some steps |
| `low` | once, and once more in backward | what enters each step |

Where the objective is a sum over classes, a group of them is decoded, compared and gone back over
before the next one, so that `fast` and `mixed` keep the activations of one group alone.

LD3M (Moser et al., https://arxiv.org/abs/2403.03881) names the trade; its released code runs the
network three times forward, a part of it four times. All lead to the same gradients, but chunks of
images round differently: a run keeps its choice (`Plan`) with its checkpoints.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import psutil
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latentdc import ranks

_SHARE = 0.6  # of the free memory that decoding may fill; the objective needs the rest
_LARGE_SHARE = 0.85  # likewise, where what is left holds _REST
_REST = 8e9  # bytes for the objective, which sees few images at once, and for what is fragmented
_AGAIN = 8  # images that are computed again together; of large networks more are hardly faster
_DECODER_SHARE, _DENOISER_SHARE = 1 / 16, 1 / 4  # of what decoding may fill, for those
_WORTH = 0.05  # share of the steps below which it is not worth it to keep some
Memory = Literal["fast", "mixed", "low"]
MemoryChoice = Literal["auto", "fast", "low"]


def run_steps(
    steps: Sequence[Callable[[Tensor], Tensor]], x: Tensor, *, kept: int | None = None
) -> Tensor:
    """The last of the steps' results, each made from the one before.

    Args:
        steps: x -> the next x; without draws of their own, so that they can be run again.
        x: what enters the first step.
        kept: how many steps, the last ones, keep their activations for backward, which frees them
            before it runs the others again; None is all.
    """
    again = 0 if kept is None else len(steps) - kept
    for place, step in enumerate(steps):
        if place < again:
            x = checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)
        else:
            x = step(x)
    return x


@dataclass(frozen=True)
class Plan:
    """How a prior decodes."""

    memory: Memory
    chunk: int | None = None  # images that the denoiser is given together; None is all
    decoder_chunk: int | None = None  # images that the decoder is given together; None is `chunk`
    # Images, of whole classes, that are decoded, compared and gone back over before the next ones,
    # where the objective is a sum over classes; None is all of a step.
    group: int | None = None
    # With `mixed`, how many denoising steps of one image keep their activations, counted over all
    # images that are decoded together.
    kept_steps: int = 0

    def together(self, images: int) -> int:
        """How many of so many images the denoiser is given together."""
        return self.chunk or max(images, 1)

    def decoded(self, images: int) -> int:
        """How many of so many images the decoder is given together."""
        return self.decoder_chunk or self.together(images)

    def kept(self, images: int, steps: int) -> Iterator[int | None]:
        """`kept` of `run_steps` for each chunk of so many images, which take so many steps."""
        each = min(steps, self.kept_steps // max(images, 1))
        left = self.kept_steps - each * images
        for size in _chunk_sizes(images, self.together(images)):
            if self.memory != "mixed":
                yield None if self.memory == "fast" else 0
            elif each < steps and size <= left:
                left -= size
                yield each + 1
            else:
                yield each

    def sweeps(self, images: int, steps: int) -> float:
        """How often a step of matching runs the denoiser, back to the inputs counting as once."""
        if self.memory != "mixed" or not images * steps:
            return 2.0 if self.memory == "fast" else 3.0
        kept = 0
        for group in _chunk_sizes(images, self.group or images):
            sizes = _chunk_sizes(group, self.together(group))
            kept += sum(
                size * (of or 0) for size, of in zip(sizes, self.kept(group, steps), strict=True)
            )
        return 3 - kept / (images * steps)

    def held(self, needs: "Needs", images: int) -> int:
        """Bytes of activations at most, when so many images are decoded and gone back over."""
        group = min(self.group or images, images)
        if self.memory == "fast":
            return group * needs.whole
        working = min(self.decoded(group), group) * needs.decoder
        if self.kept_steps < group:  # else a chunk frees a step before it runs another one again
            working = max(working, min(self.together(group), group) * needs.step)
        return min(self.kept_steps, group * needs.calls) * needs.step + working


def _chunk_sizes(images: int, size: int) -> list[int]:
    """Sizes of the parts that `Tensor.split(size)` makes of so many images."""
    return [min(size, images - start) for start in range(0, images, size)]


FAST = Plan("fast")


@runtime_checkable
class Planned(Protocol):
    """A prior whose way to the gradient can be chosen."""

    plan: Plan | None  # None asks for one

    @property
    def device(self) -> torch.device:
        """Device on which it decodes."""

    def needs(self) -> "Needs":
        """What backward keeps of one image, measured."""


@dataclass(frozen=True)
class Needs:
    """Bytes that backward keeps of one image."""

    step: int  # of one denoising step; 0 without a denoiser
    calls: int  # how many of these there are
    decoder: int

    @property
    def whole(self) -> int:
        """Bytes of one image when all activations are kept."""
        return self.step * self.calls + self.decoder

    @property
    def largest(self) -> int:
        """Bytes of one image in the largest step alone."""
        return max(self.step, self.decoder)

    def of_one_step(self) -> "Needs":
        """What is needed where backward goes through one step at a time, as for guides."""
        return Needs(step=0, calls=0, decoder=self.largest)


def fixed_plan(memory: MemoryChoice, chunk: int) -> Plan | None:
    """The plan that a choice stands for; None where it must be measured."""
    if memory == "auto":
        return None
    return FAST if memory == "fast" else Plan(memory, chunk)


def choose_plan(needs: Needs, images: int, free: int, *, ipc: int | None = None) -> Plan:
    """Keep everything if it fits, else of some classes at a time, else of some steps, else nothing.

    `images` are those that a step moves, `free` is in bytes; `ipc` is None where the objective is
    no sum over classes, and has to see all images together.
    """
    if images * needs.whole <= _SHARE * free:
        return FAST
    budget = max(_SHARE * free, min(_LARGE_SHARE * free, free - _REST))
    if ipc is not None and (fitting := int(budget // (ipc * max(needs.whole, 1)))):
        classes = -(-images // ipc)
        groups = -(-classes // fitting)
        return Plan("fast", group=-(-classes // groups) * ipc)
    group = images if ipc is None else min(ipc, images)
    plan = Plan(
        "mixed",
        chunk=-(-group // -(-group // _AGAIN)),
        decoder_chunk=_fitting(_DECODER_SHARE * budget, needs.decoder, group),
        group=None if ipc is None else group,
        kept_steps=group,
    )
    if plan.held(needs, images) > budget:
        chunk = _fitting(_DENOISER_SHARE * budget, needs.step, group)
        plan = replace(plan, chunk=chunk, kept_steps=0)
    room = plan.kept_steps + (budget - plan.held(needs, images)) // max(needs.step, 1)
    if needs.calls and room >= _WORTH * group * needs.calls:
        return replace(plan, kept_steps=min(int(room), group * needs.calls))
    chunk = int(_SHARE * free // max(needs.largest, 1))
    return Plan("low", max(1, min(images, chunk)))


def _fitting(room: float, size: int, images: int) -> int:
    """How many of so many images, each of a size, are computed again together."""
    return max(1, min(images, _AGAIN, int(room // max(size, 1))))


def describe_plan(plan: Plan, needs: Needs, images: int, free: int) -> str:
    """One line for the user."""
    together = plan.group or images
    how = {
        "fast": "keeps all activations" + f", {plan.group} at a time" * (plan.group is not None),
        "mixed": f"{together} at a time, activations of {plan.kept_steps} of their "
        f"{together * needs.calls} denoising steps kept, {plan.sweeps(images, needs.calls):.2f} "
        "sweeps of the denoiser",
        "low": f"{plan.chunk} at a time",
    }[plan.memory]
    return (
        f"{plan.memory} ({how}) for {images} images of {needs.whole / 1e6:,.0f} MB each, "
        f"{free / 1e9:.1f} GB free"
    )


def needed_bytes(
    decoder: Callable[[], Tensor], step: Callable[[], Tensor] | None = None, calls: int = 0
) -> Needs:
    """What backward needs of one image: of the decoder, and of a step with its repeats."""
    return Needs(0 if step is None else _step_bytes(step), calls, _step_bytes(decoder))


def _step_bytes(forward: Callable[[], Tensor]) -> int:
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

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
    with torch.enable_grad(), _fused_attention(), hooks:
        result = forward()  # held until all is counted, so that no address is used twice
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return size


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Have the `meta` device keep of attention what kernels of real devices keep.

    There torch takes attention apart, and keeps the matrix of each head.
    """
    functional: Any = nn.functional
    plain = functional.scaled_dot_product_attention
    fused: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(  # networks tell by position what nn.functional names
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        options |= {"attn_mask": attn_mask, "dropout_p": dropout_p, "is_causal": is_causal}
        if query.device.type != "meta" or options.get("enable_gqa", False):
            result: Tensor = plain(query, key, value, **options)
        else:
            options.pop("enable_gqa", None)
            result = fused(query, key, value, **options)[0]
        return result

    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take; processes of a machine share its memory."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available) // ranks.local_processes()
