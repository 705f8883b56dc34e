"""Seconds, memory and FLOP/s of a step in all that a recipe can ask for."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from measure import best_seconds, macs, matrix_rate, peak_bytes
from models import Model, Networks, Transformer
from released import CHUNK, NAME, Released
from steps import inputs, our_step, released_step

from latentdc.modes import precision_put_back
from latentdc.priors.base import PrecisionName
from latentdc.priors.load_latent import tune
from latentdc.priors.memory import Plan
from latentdc.recipe import PriorSettings

Row = dict[str, object]
BUSY = 2.0  # seconds that a way is timed for, about
SHARE = 0.5  # of the free memory that the activations of `fast` in float32 may fill


@dataclass(frozen=True)
class Way:
    """How a step is run; without a plan, as the released code does."""

    plan: Plan | None
    precision: PrecisionName = "no"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False

    @property
    def title(self) -> str:
        precision = "tf32" if self.tf32 else "float32" if self.precision == "no" else self.precision
        if self.plan is None:
            return f"{NAME}, {precision}"
        chunk = f", {self.plan.chunk} at a time" if self.plan.chunk else ""
        layout = ", channels last" if self.channels_last else ""
        return f"{self.plan.memory}{chunk}, {precision}{layout}{', compiled' * self.compile}"


def ways(images: int, calls: int) -> Iterator[Way]:
    """What needs no compiler, the released way first, of so many calls of the denoiser."""
    yield Way(None)
    yield from (Way(Plan("fast")), Way(Plan("fast"), "bf16"), Way(Plan("low", images), "bf16"))
    yield Way(Plan("mixed", images, kept_steps=images * calls // 2), "bf16")
    yield from (Way(Plan("fast"), tf32=True), Way(Plan("fast"), "bf16", channels_last=True))
    yield Way(Plan("low", 1), "bf16")


def compiled() -> Iterator[Way]:
    """Compilation, beside the same without it."""
    yield Way(Plan("fast"), "bf16")
    yield Way(Plan("fast"), "bf16", compile=True)


def measured(
    name: str, model: Model, ways: Iterable[Way], images: int, device: torch.device
) -> Iterator[Row]:
    """A row of each way; one that does not fit into memory, or breaks, says so."""
    first: float | None = None
    for way in ways:
        row: Row = {"model": name, "way": way.title, "images": images}
        with ExitStack() as stack:
            stack.enter_context(precision_put_back())
            matrix, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
            matrix.allow_tf32 = convolution.allow_tf32 = way.tf32
            try:
                row |= _measured(way, model, images, device)
            except torch.OutOfMemoryError:
                row |= {"s per step": None, "told": "out of memory"}
            except RuntimeError as error:  # of a kernel or compiler that one way alone asks for
                told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
                row |= {"s per step": None, "told": told[:100]}
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        seconds = row["s per step"]
        if first is None and isinstance(seconds, float):
            first = seconds
        if first is not None and isinstance(seconds, float):
            row["times as fast as the first"] = first / seconds
        yield row


def _measured(way: Way, model: Model, images: int, device: torch.device) -> Row:
    work = prepared(way, model, images, device)
    work()  # chooses kernels, or compiles them
    once = best_seconds({"": work}, 1, device)[""]
    repeats = max(0, min(4, int(BUSY / once) - 1))
    again = best_seconds({"": work}, repeats, device)[""] if repeats else once
    seconds = min(once, again)
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    peak = held + peak_bytes(work, device)
    del work  # the count takes networks of its own
    gc.collect()
    dtype = torch.bfloat16 if way.precision == "bf16" else torch.float32
    row: Row = {"s per step": seconds, "peak GB": peak / 1e9}
    row |= {"TFLOP/s": None, "of a matrix product's": None}
    with suppress(RuntimeError):  # of too little memory too, which leaves what was measured
        rate = 2 * counted(way.plan, model, images, device) / seconds
        row["TFLOP/s"] = rate / 1e12
        row["of a matrix product's"] = rate / product_rate(device, dtype, way.tf32)
    return row


def counted(plan: Plan | None, model: Model, images: int, device: torch.device) -> float:
    """Multiply-adds of a step, which no precision, layout or compiler changes, nor any chunk.

    Counted once: the counter takes longer than a GPU where a step is many small kernels, and does
    not see what a compiler makes of them.
    """
    return _counted(None if plan is None else replace(plan, chunk=images), model, images, device)


@cache
def _counted(plan: Plan | None, model: Model, images: int, device: torch.device) -> float:
    work = prepared(Way(plan), model, images, device)
    found = macs(work)
    del work
    gc.collect()  # the counter's cycles hold networks, which would count as memory
    return found


@cache
def product_rate(device: torch.device, dtype: torch.dtype, tf32: bool) -> float:
    """Of this device, in FLOP/s; the flag of TF32 is as it says."""
    return matrix_rate(device, dtype, 8192 if device.type == "cuda" else 256)


def fitting(model: Model, device: torch.device, most: int = CHUNK) -> int:
    """Images whose activations fit, if all are kept in float32; on a CPU `most`."""
    if device.type != "cuda":
        return most
    with device:
        networks = model.make().to(device)
    needs = networks.prior(model.resolution, steps=model.steps).needs()
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(most, int(SHARE * free // needs.whole)))


def prepared(way: Way, model: Model, images: int, device: torch.device) -> Callable[[], None]:
    """One step, with networks of its own, drawn where they run."""
    with device:
        networks = model.make().to(device)
    if way.plan is None:
        return released(networks, model, images)
    prior = networks.prior(model.resolution, steps=model.steps, precision=way.precision)
    how = PriorSettings(weights="tuned", channels_last=way.channels_last, compile=way.compile)
    for network in (prior.denoiser.network, prior.autoencoder.autoencoder.decoder):
        tune(network, how, device, way.precision)
    return partial(our_step, prior, way.plan, inputs(prior, images))


def released(networks: Networks | Transformer, model: Model, images: int) -> Callable[[], None]:
    """The released schedule; of a DiT, which that code does not have, with diffusers' checkpoints.

    They stand around each block, inside one around each call, as they do there.
    """
    prior = networks.prior(model.resolution, steps=model.steps)
    given = inputs(prior, images)
    if isinstance(networks, Networks):
        return partial(released_step, Released(networks, steps=model.steps), given)
    networks.network.enable_gradient_checkpointing()
    plan = Plan("low", min(CHUNK, images))

    def step() -> None:
        prior.plan = plan
        with torch.no_grad():
            prior.decode(*given[:3])
        our_step(prior, plan, given)

    return step
