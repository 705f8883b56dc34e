"""Three ways to the exact gradient of a chain of steps, from the fastest to the smallest.

| memory | forward of a step | kept for backward |
|---|---|---|
| `fast` | once | all activations of all steps |
| `low` | once, and once more in backward | what enters each step, in autograd's graph |
| `replay` | likewise | what enters each step, and no graph at all |

LD3M (Moser et al., https://arxiv.org/abs/2403.03881) names the trade; its released code runs the
network three times forward, a part of it four times.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Memory = Literal["fast", "low", "replay"]
Shared = tuple[Tensor | None, ...]
Step = Callable[..., Tensor]
"""(x, *shared) -> the next x; without draws of its own, so that it can be run again."""


def run_steps(steps: Sequence[Step], x: Tensor, shared: Shared, *, memory: Memory) -> Tensor:
    """Run x through all steps.

    Args:
        steps: functions of x and of all that is shared.
        x: what enters the first step.
        shared: what enters every step beside it.
        memory: how the gradient is made.

    Returns:
        The last x; differentiable once, in x and in all that is shared.
    """
    if memory == "replay" and torch.is_grad_enabled():
        last: Tensor = _Replay.apply(tuple(steps), x, *shared)
        return last
    for step in steps:
        if memory == "low":
            x = checkpoint(step, x, *shared, use_reentrant=False, preserve_rng_state=False)
        else:
            x = step(x, *shared)
    return x


class _Replay(torch.autograd.Function):
    """Two passes: x is kept before each step, and backward runs the steps again, last one first.

    With x_i the i-th x, s what is shared and g_i = dL/dx_i:
    g_(i-1) = (d step_i / dx)^T g_i and dL/ds = sum over i of (d step_i / ds)^T g_i.
    """

    @staticmethod
    def forward(ctx: Any, steps: tuple[Step, ...], x: Tensor, *shared: Tensor | None) -> Tensor:
        states = []
        x, shared = x.detach(), tuple(t if t is None else t.detach() for t in shared)
        for step in steps:
            states.append(x)
            x = step(x, *shared)
        ctx.steps = steps
        ctx.autocast = _same_autocast(x.device.type)
        ctx.save_for_backward(*states, *shared)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.steps)
        states, shared = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        _, first_wanted, *shared_wanted = ctx.needs_input_grad
        totals: list[Tensor | None] = [None] * len(shared)
        for index in reversed(range(count)):
            x = _leaf(states[index], index > 0 or first_wanted)
            leaves = [_leaf(t, wanted) for t, wanted in zip(shared, shared_wanted, strict=True)]
            with torch.enable_grad(), ctx.autocast:
                after = ctx.steps[index](x, *leaves)
            to_x, *to_shared = _gradients(after, (x, *leaves), gradient)
            totals = [_add(total, g) for total, g in zip(totals, to_shared, strict=True)]
            gradient = torch.zeros_like(states[index]) if to_x is None else to_x
        return None, gradient if first_wanted else None, *totals


def _same_autocast(device: str) -> torch.autocast:
    """The autocast that is on now, to be on again in backward."""
    return torch.autocast(
        device,
        dtype=torch.get_autocast_dtype(device),
        enabled=torch.is_autocast_enabled(device),
    )


def _leaf(tensor: Tensor | None, wanted: bool) -> Tensor | None:
    return None if tensor is None else tensor.detach().requires_grad_(wanted)


def _gradients(
    after: Tensor, leaves: Sequence[Tensor | None], gradient: Tensor
) -> list[Tensor | None]:
    """One for each leaf, None for those that want none or had no part in `after`."""
    wanted = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
    found = iter(torch.autograd.grad(after, wanted, gradient, allow_unused=True))
    return [next(found) if leaf is not None and leaf.requires_grad else None for leaf in leaves]


def _add(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    if total is None or more is None:
        return more if total is None else total
    return total + more
