"""torch's modes and defaults of a caller, which what latentdc computes does not depend on."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., object])


def with_gradients(function: F) -> F:
    """The function as it is outside of `torch.no_grad()` and `torch.inference_mode()`.

    Tensors that are made in inference mode can never be trained with, so that loading has it too.
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))


def in_plain_modes(function: F) -> F:
    """`with_gradients`, and with float32 and the CPU as torch's defaults and without autocast.

    Precision is the accelerator's, which results name.
    """
    inner = with_gradients(function)

    @wraps(function)
    def plain(*given: Any, **named: Any) -> object:
        with ExitStack() as stack:
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            if (dtype := torch.get_default_dtype()) != torch.float32:
                torch.set_default_dtype(torch.float32)
                stack.callback(torch.set_default_dtype, dtype)
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return inner(*given, **named)

    return cast(F, plain)
