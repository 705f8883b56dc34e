"""Seconds, memory and FLOP/s of a step at the real size, in all that a recipe can ask for."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from measure import best_seconds, macs, matrix_rate, peak_bytes
from models import MODELS, Model
from released import NAME, Released
from steps import inputs, our_step, released_step

from latentdc.priors.base import Precision
from latentdc.priors.latent import tune
from latentdc.priors.memory import Plan


@dataclass(frozen=True)
class Way:
    """How a step is run; without a plan, as the released code does."""

    plan: Plan | None
    precision: Precision = "no"
    channels_last: bool = False
    compile: bool = False

    @property
    def title(self) -> str:
        if self.plan is None:
            return NAME
        chunk = f", {self.plan.chunk} at a time" if self.plan.chunk else ""
        layout = ", channels last" if self.channels_last else ""
        precision = "float32" if self.precision == "no" else self.precision
        return f"{self.plan.memory}{chunk}, {precision}{layout}{', compiled' * self.compile}"


def ways(images: int) -> Iterator[Way]:
    yield Way(None)
    yield Way(Plan("fast"))
    for channels_last in (False, True):
        for compile in (False, True):
            yield Way(Plan("fast"), "bf16", channels_last, compile)
    yield from (Way(Plan("low", size), "bf16") for size in (images, 1))


def measure_all(names: list[str], images: int, repeats: int) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 8192 if device.type == "cuda" else 512
    rates = {
        "no": matrix_rate(device, torch.float32, size),
        "bf16": matrix_rate(device, torch.bfloat16, size),
    }
    found = {precision: f"{rate / 1e12:.2f}" for precision, rate in rates.items()}
    print(f"matrix product: {found['no']} TFLOP/s in float32, {found['bf16']} in bf16")
    for name in names:
        model, flops = MODELS[name], {}
        print(f"\n{name}: {images} images, {model.steps} steps")
        print(f"  {'way':<40}   s/step   peak GB  TFLOP/s  of the matrix product's")
        for way in ways(images):
            work = prepared(way, model, images, device)
            if way.plan not in flops:  # compiled kernels are not seen by the counter
                flops[way.plan] = 2 * macs(work)
            work()  # compiles, and chooses kernels
            seconds = best_seconds({"": work}, repeats, device)[""]
            held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
            rate, peak = flops[way.plan] / seconds, held + peak_bytes(work, device)
            print(
                f"  {way.title:<40} {seconds:8.3f} {peak / 1e9:9.2f} {rate / 1e12:8.2f} "
                f"{rate / rates[way.precision]:8.0%}",
                flush=True,
            )
            del work
            gc.collect()


def prepared(way: Way, model: Model, images: int, device: torch.device) -> Callable[[], None]:
    """One step, with networks of its own."""
    networks = model.make().to(device)
    if way.plan is None:
        given = inputs(model.make().to(device).prior(model.resolution), images)
        return partial(released_step, Released(networks, steps=model.steps), given)
    prior = networks.prior(model.resolution, steps=model.steps, precision=way.precision)
    tune(
        [prior.denoiser.network, prior.autoencoder.autoencoder.decoder],
        device,
        precision=way.precision,
        channels_last=way.channels_last,
        compile=way.compile,
    )
    return partial(our_step, prior, way.plan, inputs(prior, images))
