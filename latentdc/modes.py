"""Modes and switches of libraries that a caller set, which what latentdc computes is the same in.

They are torch's, and Pillow's leave to show a picture whose file is cut off.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from threading import RLock
from typing import Any, TypeVar, cast

import torch
from PIL import ImageFile

F = TypeVar("F", bound=Callable[..., object])


def with_gradients(function: F) -> F:
    """The function as it is outside of `torch.no_grad()` and `torch.inference_mode()`.

    Tensors that are made in inference mode can never be trained with, so that loading has it too.
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))


def in_plain_modes(function: F) -> F:
    """`with_gradients`, with the CPU as torch's default, without autocast, and in plain switches.

    Precision is the accelerator's, which results name.
    """
    inner = with_gradients(function)

    @wraps(function)
    def plain(*given: Any, **named: Any) -> object:
        with ExitStack() as stack:
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            stack.enter_context(_plain_switches())
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return inner(*given, **named)

    return cast(F, plain)


@dataclass(frozen=True)
class _Switch:
    """A setting of a library that is one for all threads."""

    read: Callable[[], Any]
    put: Callable[[Any], None]
    plain: Any  # what it is while latentdc computes


def _cpu_products() -> list[Any]:
    """Kinds of products, in which some CPUs can round float32 to less (oneDNN)."""
    library: Any = torch.backends.mkldnn
    return [library.matmul, library.conv, library.rnn]


def _cpu_precision() -> list[str] | None:
    """Of each kind of products; None where all are float32."""
    found = [one.fp32_precision for one in _cpu_products()]
    return None if {*found} <= {"none", "ieee"} else found


def _put_cpu_precision(precision: list[str] | None) -> None:
    for one, wanted in zip(_cpu_products(), precision or ["ieee"] * 3, strict=True):
        one.fp32_precision = "none"  # that of torch.backends.fp32_precision
        if one.fp32_precision != wanted:
            one.fp32_precision = wanted


def _put_truncated(shown: bool) -> None:
    ImageFile.LOAD_TRUNCATED_IMAGES = shown


_SWITCHES = (
    _Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Switch(_cpu_precision, _put_cpu_precision, None),
    _Switch(lambda: ImageFile.LOAD_TRUNCATED_IMAGES, _put_truncated, False),
)


@dataclass(eq=False)
class _Call:
    found: list[Any]  # each switch before it


_calls: list[_Call] = []  # that run now, in the order of their starts
_lock = RLock()


@contextmanager
def _plain_switches() -> Iterator[None]:
    """All switches as they are plain.

    A call that ends before a later one leaves it what there is to put back.
    """
    with _lock:
        call = _Call([switch.read() for switch in _SWITCHES])
        _put_plain()
        _calls.append(call)
    try:
        yield
    finally:
        with _lock:
            later = _calls[_calls.index(call) + 1 :]
            _calls.remove(call)
            for place, (switch, found) in enumerate(zip(_SWITCHES, call.found, strict=True)):
                if not later and found != switch.plain:
                    switch.put(found)
                elif later and later[0].found[place] == switch.plain:
                    later[0].found[place] = found


def _put_plain() -> None:
    for switch in _SWITCHES:
        if switch.read() != switch.plain:
            switch.put(switch.plain)


def stay_plain() -> None:
    """Put back what code has switched that was imported while latentdc computes."""
    with _lock:
        if _calls:
            _put_plain()
