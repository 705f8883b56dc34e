"""The generator's part of a distillation step, beside the schedule of the released LD3M code.

Decoding and the way back to z and c, in one run: gradients compared, multiply-adds of the UNet
counted, times taken in turns, and the peak of memory, for each of latentdc's ways to the gradient.

python benchmarks/decoding.py [digits] [cifar10] [cin256/8] [--plot assets/decoding.png]
`gpu.py` measures real sizes on a GPU.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from measure import best_seconds, macs, peak_bytes
from models import MODELS, Model
from released import CHUNK, NAME, Released
from steps import Inputs, compare, inputs, our_step, plans, released_step

from latentdc import draws
from latentdc.objectives.build import build_objective
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.recipe import ObjectiveSettings
from latentdc.runtime import device_name

AIM = 0.55  # of the released time
BATCH = 64  # real images per class of the objective


@dataclass(frozen=True)
class Row:
    """What was measured of one way to the gradient."""

    name: str
    seconds: float
    peak: int
    work: float  # multiply-adds of the UNet


def unet_work(name: str, total: float, image: float, image_back: float) -> float:
    """Without the decoder, which all but `fast` run twice forward."""
    return total - image * (1 if name.startswith("fast") else 2) - image_back


def decoder_work(prior: DiffusionPrior, given: Inputs) -> tuple[float, float]:
    forward = macs(lambda: prior.autoencoder.decode_chunk(given[0]))
    both = macs(lambda: prior.autoencoder.decode_chunk(given[0]).backward(given[3]))
    return forward, both - forward


def measure(name: str, images: int, repeats: int) -> list[Row]:
    """Compare, count and time one model; print a table."""
    model, device = MODELS[name], torch.device("cpu")
    ours, theirs = (model.make().to(device) for _ in range(2))
    prior = ours.prior(model.resolution, steps=model.steps)
    plain = Released(theirs, steps=model.steps)
    given = inputs(prior, images)
    works = {NAME: partial(released_step, plain, given)} | {
        key: partial(our_step, prior, plan, given)
        for key, plan in plans(images, model.steps).items()
    }
    size = sum(p.numel() for p in ours.unet.parameters()) / 1e6
    shape = f"{images} images of {model.resolution} px, {model.steps} steps"
    print(f"\n{name}: {shape}, UNet of {size:.1f} M")
    call = macs(lambda: plain.call(given[0][:1], torch.tensor([1]), given[1][:1]))
    image = macs(lambda: prior.autoencoder.decode_chunk(given[0][:1]))
    ratio = f"1 to {image / call:.2f}"
    print(
        f"  GMAC of a UNet call {call / 1e9:.3f}, of decoding an image {image / 1e9:.3f}: {ratio}"
    )
    compare(prior, plain, given)
    parts = decoder_work(prior, given)
    counted = {key: unet_work(key, macs(work), *parts) for key, work in works.items()}
    peaks = {key: peak_bytes(work, device) for key, work in works.items()}
    times = best_seconds(works | {"objective": objective(model, images)}, repeats, device)
    rows = [Row(key, times[key], peaks[key], counted[key]) for key in works]
    table(rows, times["objective"])
    return rows


def objective(model: Model, images: int) -> Callable[[], object]:
    """What comes between decoding and the way back: distribution matching, class by class."""
    matching = build_objective(
        ObjectiveSettings(network="convnet3"), num_classes=10, resolution=model.resolution
    )
    source = draws.generator(0, "objective")
    shape = (3, model.resolution, model.resolution)
    real = torch.rand(BATCH, *shape, generator=source) * 2 - 1
    made = (torch.rand(images, *shape, generator=source) * 2 - 1).requires_grad_()
    labels = (torch.arange(images) % 10).sort().values
    return lambda: matching.accumulate(0, made, labels, lambda step, label: real)


def table(rows: list[Row], objective: float) -> None:
    first = rows[0]
    print(
        "  way                          UNet GMAC        s    of it  whole step    peak MB    of it"
    )
    for row in rows:
        whole = (row.seconds + objective) / (first.seconds + objective)
        work = f"{row.work / 1e9:5.1f} {row.work / first.work:4.2f}"
        time = f"{row.seconds:8.3f} {row.seconds / first.seconds:8.2f} {whole:11.2f}"
        print(f"  {row.name:<28} {work} {time} {row.peak / 1e6:9.1f} {row.peak / first.peak:8.2f}")
    print(
        f"  whole step: with distribution matching, {BATCH} real images a class, {objective:.3f} s"
    )


def relative(row: Row, first: Row) -> tuple[str, float, float]:
    return row.name, row.seconds / first.seconds, row.peak / first.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--images", type=int, default=CHUNK)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    device = torch.device("cpu")
    print(f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    wanted = options.models or ["digits", "cifar10", "cin256/8"]
    found = {name: measure(name, options.images, options.repeats) for name in wanted}
    if options.plot:
        from tradeoff import draw  # matplotlib is an extra

        points = {name: [relative(row, rows[0]) for row in rows] for name, rows in found.items()}
        draw(points, AIM, options.plot)


if __name__ == "__main__":
    main()
