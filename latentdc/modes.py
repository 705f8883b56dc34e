"""Torch's modes and switches of libraries while latentdc computes, and the precision of a run.

Whatever a caller has set, the same is computed, and all is put back. Torch's own default on GPUs is
TF32, float32 whose products are rounded to 10 bits, in cuDNN's convolutions, and float32 in matrix
products.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from threading import RLock
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from PIL import ImageFile

from latentdc.errors import InputError

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
            stack.enter_context(_put_back(*_PLAIN))
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return inner(*given, **named)

    return cast(F, plain)


@contextmanager
def precision_put_back() -> Iterator[None]:
    """Leave TF32 as it was before; as a decorator too."""
    with _put_back(_TF32):
        yield


def use_precision(wanted: str | None, accelerator: Accelerator) -> None:
    """Set torch's flags for a precision of a recipe: `tf32` on, `no` off in matrix products.

    Raises:
        InputError: the launcher computes in another one, or TF32 is asked of a device without it.
    """
    runs, device = accelerator.mixed_precision, accelerator.device.type
    launched = "no" if wanted == "tf32" else wanted
    if wanted == "tf32" and device != "cuda":
        raise InputError(
            f"the recipe has precision=tf32, which GPUs of NVIDIA have, and this run computes on "
            f"{device}; leave precision out of the recipe."
        )
    if wanted is not None and runs != launched:
        raise InputError(
            f"the recipe has precision={wanted}, but Accelerate runs in {runs}; launch with "
            f"--mixed_precision {launched}, or leave precision out of the recipe."
        )
    if wanted == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif wanted == "no":
        torch.backends.cuda.matmul.allow_tf32 = False


def precision_of(accelerator: Accelerator) -> str:
    """What results, scores and checkpoints record: `tf32`, or Accelerate's mixed precision."""
    runs, on_gpu = accelerator.mixed_precision, accelerator.device.type == "cuda"
    rounds = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if on_gpu and runs == "no" and rounds else runs


@dataclass(eq=False)
class _Switch:
    """A setting of a library that is one for all threads."""

    read: Callable[[], Any]
    put: Callable[[Any], None]
    plain: Any = ...  # what it is while latentdc computes; else what a recipe says


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


def _gpu_products() -> list[Any]:
    cudnn: Any = torch.backends.cudnn
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]


def _gpu_precision() -> tuple[list[str], list[tuple[Any, bool]]]:
    """By `fp32_precision`; by `allow_tf32` too, which torch refuses to read once that was set."""
    older: list[tuple[Any, bool]] = []
    for one in (torch.backends.cuda.matmul, torch.backends.cudnn):
        with suppress(RuntimeError):
            older.append((one, one.allow_tf32))
    return [one.fp32_precision for one in _gpu_products()], older


def _put_gpu_precision(found: tuple[list[str], list[tuple[Any, bool]]]) -> None:
    precisions, older = found
    if [one.fp32_precision for one in _gpu_products()] == precisions:
        return  # a write would make a caller's "medium" of matrix products a "high"
    for one, allowed in older:
        one.allow_tf32 = allowed
    for one, precision in zip(_gpu_products(), precisions, strict=True):
        if one.fp32_precision != precision:
            one.fp32_precision = precision


def _put_truncated(shown: bool) -> None:
    ImageFile.LOAD_TRUNCATED_IMAGES = shown


_PLAIN = (
    _Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Switch(_cpu_precision, _put_cpu_precision, None),
    _Switch(lambda: ImageFile.LOAD_TRUNCATED_IMAGES, _put_truncated, False),
)
_TF32 = _Switch(_gpu_precision, _put_gpu_precision)
_calls: list[dict[_Switch, Any]] = []  # that run now, by their starts: switches as they found them
_lock = RLock()


@contextmanager
def _put_back(*switches: _Switch) -> Iterator[None]:
    """Make switches plain, and put them back.

    A call that ends before a later one leaves it what there is to put back.
    """
    with _lock:
        call = {switch: switch.read() for switch in switches}
        _put_plain(call)
        _calls.append(call)
    try:
        yield
    finally:
        with _lock:
            place = [one is call for one in _calls].index(True)
            later = _calls[place + 1 :]
            del _calls[place]
            for switch, found in call.items():
                after = next((one for one in later if switch in one), None)
                if after is None and switch.read() != found:
                    switch.put(found)
                elif after is not None and switch.plain in (..., after[switch]):
                    after[switch] = found


def _put_plain(switches: Iterable[_Switch]) -> None:
    for switch in switches:
        if switch.plain is not ... and switch.read() != switch.plain:
            switch.put(switch.plain)


def stay_plain() -> None:
    """Put back what code has switched that was imported while latentdc computes."""
    with _lock:
        for call in _calls:
            _put_plain(call)
