"""TF32: float32 whose products a GPU rounds to 10 bits, which is a flag of the whole process.

Torch's own default on GPUs is TF32 in cuDNN's convolutions and float32 in matrix products.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from latentdc.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(eq=False)
class _Call:
    put_back: Callable[[], None]  # the flags as it found them


_calls: list[_Call] = []  # that run now, in the order of their starts
_lock = RLock()


@contextmanager
def flags_put_back() -> Iterator[None]:
    """Leave torch's flags as they were before; as a decorator too.

    They are one for all threads: a call that ends before a later one leaves it to put them back.
    """
    with _lock:
        call = _Call(_found_flags())
        _calls.append(call)
    try:
        yield
    finally:
        with _lock:
            later = _calls[_calls.index(call) + 1 :]
            _calls.remove(call)
            if later:
                later[0].put_back = call.put_back
            else:
                call.put_back()


def _found_flags() -> Callable[[], None]:
    """What sets torch's flags to what they are now.

    A caller has set them by `allow_tf32` or by `fp32_precision`, after which torch refuses to read
    the former.
    """
    import torch  # takes a second

    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    products = [matmul, cudnn.conv, cudnn.rnn]
    found = [one.fp32_precision for one in products]
    older = []
    for one in (matmul, cudnn):
        with suppress(RuntimeError):
            older.append((one, one.allow_tf32))

    def put_back() -> None:
        if [one.fp32_precision for one in products] == found:
            return  # a write would make a caller's "medium" of matrix products a "high"
        for one, allowed in older:
            one.allow_tf32 = allowed
        for one, precision in zip(products, found, strict=True):
            if one.fp32_precision != precision:
                one.fp32_precision = precision

    return put_back


def use_precision(wanted: str | None, accelerator: "Accelerator") -> None:
    """Set the flags for a precision of a recipe: `tf32` on, `no` off in matrix products.

    Raises:
        InputError: the launcher computes in another one, or TF32 is asked of a device without it.
    """
    import torch

    runs, device = accelerator.mixed_precision, accelerator.device.type
    if wanted == "tf32" and device != "cuda":
        raise InputError(
            f"the recipe has precision=tf32, which GPUs of NVIDIA have, and this run computes on "
            f"{device}; leave precision out of the recipe."
        )
    if wanted is not None and runs != ("no" if wanted == "tf32" else wanted):
        launched = "no" if wanted == "tf32" else wanted
        raise InputError(
            f"the recipe has precision={wanted}, but Accelerate runs in {runs}; launch with "
            f"--mixed_precision {launched}, or leave precision out of the recipe."
        )
    if wanted == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif wanted == "no":
        torch.backends.cuda.matmul.allow_tf32 = False


def precision_of(accelerator: "Accelerator") -> str:
    """What results, scores and checkpoints record: `tf32`, or Accelerate's mixed precision."""
    import torch

    runs, on_gpu = accelerator.mixed_precision, accelerator.device.type == "cuda"
    rounds = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if on_gpu and runs == "no" and rounds else runs
