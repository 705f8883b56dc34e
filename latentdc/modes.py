"""torch's modes and defaults of a caller, which what latentdc computes does not depend on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from threading import RLock
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
            stack.enter_context(_float32())
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return inner(*given, **named)

    return cast(F, plain)


@dataclass(eq=False)
class _Call:
    found: torch.dtype  # torch's default before it


_calls: list[_Call] = []  # that run now, in the order of their starts
_lock = RLock()


@contextmanager
def _float32() -> Iterator[None]:
    """float32 as torch's default dtype, which is one for all threads.

    A call that ends before a later one leaves it what there is to put back.
    """
    with _lock:
        call = _Call(torch.get_default_dtype())
        if call.found != torch.float32:
            torch.set_default_dtype(torch.float32)
        _calls.append(call)
    try:
        yield
    finally:
        with _lock:
            later = _calls[_calls.index(call) + 1 :]
            _calls.remove(call)
            if not later and call.found != torch.float32:
                torch.set_default_dtype(call.found)
            elif later and later[0].found == torch.float32:
                later[0].found = call.found
