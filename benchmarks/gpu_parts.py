"""The parts of `gpu.py`: each yields rows, which are plain numbers by name."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import evaluation
import real_size
import stacked
import torch
from accelerate import Accelerator
from measure import best_seconds
from models import MODELS
from real_size import Row
from safetensors.torch import load_file, save_file
from steps import gradients, inputs, our_step
from torch import Tensor, nn
from torch.nn import functional as F

from latentdc import Context, checkpoint, config, draws, match
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.images import from_uint8
from latentdc.io import load_with_metadata
from latentdc.modes import precision_put_back
from latentdc.networks import new_network
from latentdc.objectives.build import build_objective
from latentdc.preprocessing import Normalization
from latentdc.priors.load import load_prior
from latentdc.priors.memory import Plan
from latentdc.priors.small import build_scheduler, build_unet
from latentdc.priors.training import train_unet
from latentdc.prune.score import score_dataset
from latentdc.prune.scorers import given_scorer
from latentdc.recipe import Data, Matching, ObjectiveSettings, PriorSettings, Prune, Scorer
from latentdc.recipe.prior_training import PriorRecipe

Rows = Iterator[Row]
TOLERANCE = 1e-3  # of latents that were continued on a GPU, relative, after a few steps


class TimeUp(BaseException):  # torch's compiler wraps any other in errors of its own
    """A part's time is over."""


@dataclass(frozen=True)
class Scale:
    """What is measured, and where.

    Attributes:
        device: of all networks.
        folder: for what a later run goes on from.
        tiny: small networks, in a minute on a CPU.
        latents: safetensors with `latents` (N, C, h, w) and `labels` (N,) of real images, on which
            a prior is trained; None draws some.
    """

    device: torch.device
    folder: Path
    tiny: bool = False
    latents: Path | None = None

    @property
    def unet(self) -> str:
        return "cin256/8" if self.tiny else "cin256 at 256 px"

    @property
    def transformer(self) -> str:
        return "DiT/tiny" if self.tiny else "DiT-XL/2 at 256 px"


def unet_step(scale: Scale) -> Rows:
    return _step(scale, scale.unet)


def transformer_step(scale: Scale) -> Rows:
    return _step(scale, scale.transformer)


def _step(scale: Scale, name: str) -> Rows:
    model = replace(MODELS[name], steps=2) if scale.tiny else MODELS[name]
    images = real_size.fitting(model, scale.device, 2 if scale.tiny else 10)
    ways = list(real_size.ways(images, model.steps))
    yield from real_size.measured(
        name, model, [*ways[:2], ways[4]] if scale.tiny else ways, images, scale.device
    )


def compiled_step(scale: Scale) -> Rows:
    names = () if scale.tiny and scale.device.type == "cpu" else (scale.unet, scale.transformer)
    for name in names:
        images = min(4, real_size.fitting(MODELS[name], scale.device))
        ways = real_size.compiled()
        yield from real_size.measured(name, MODELS[name], ways, images, scale.device)


def whole_evaluation(scale: Scale) -> Rows:
    """An evaluation from files, beside its bare steps and a plain loop without workers."""
    name, size, steps = ("convnet3@8", 16, 4) if scale.tiny else ("torchvision/resnet18", 224, 60)
    protocol, device = evaluation.budget(name, steps), scale.device
    with tempfile.TemporaryDirectory() as folder:
        train, test = (evaluation.written(Path(folder) / s, size) for s in ("train", "test"))
        works = {
            "bare steps": lambda: evaluation.bare(size, protocol, device),
            "latentdc": lambda: evaluation.ours(train, test, size, protocol, device),
            "plain loop": lambda: evaluation.plain(train, test, size, protocol, device),
        }
        for key, work in works.items():
            once = scale.tiny or key == "plain loop"  # which waits for files, not for kernels
            seconds = best_seconds({"": work}, 1 if once else 2, device)[""]
            yield {"student": name, "px": size, "steps": steps, "way": key, "s": seconds}


def stacked_seeds(scale: Scale) -> Rows:
    """Forward and backward, and whole trainings as `evaluate.together` has them."""
    size, batches = (16, (8,)) if scale.tiny else (32, (10, 100, 256))
    for seeds in (3,) if scale.tiny else (3, 10):
        for batch in batches:
            shape = ("convnet3", size, batch, scale.device, seeds)
            for what, ways, count in (
                ("forward and backward", stacked.steps(*shape), 1),
                ("training", stacked.trainings(*shape), stacked.STEPS),
            ):
                best_seconds(ways, 1, scale.device)  # chooses kernels
                times = best_seconds(ways, 2 if scale.tiny else 3, scale.device)
                for key, seconds in times.items():
                    row = {"student": "convnet3", "px": size, "batch": batch, "seeds": seeds}
                    yield {**row, "what": what, "way": key, "ms per step": 1000 * seconds / count}


def loss_scoring(scale: Scale) -> Rows:
    """Scoring by losses as `latentdc prune` does it, beside one image at a time with gradients."""
    name, size, count = (
        ("convnet3@8", 16, 64) if scale.tiny else ("torchvision/resnet18", 224, 4096)
    )
    device, few = scale.device, 16 if scale.tiny else 128
    source = torch.Generator().manual_seed(0)
    levels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=source)
    names = tuple(map(str, range(10)))
    train = Dataset(levels, torch.arange(count) % 10, names, torch.arange(count), "noise")
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.safetensors")
        network = new_network(name, num_classes=10, resolution=size, seed=0)
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
        scorer = Scorer(network=name, weights=weights)
        classifier = given_scorer(scorer, train, Normalization()).to(device).eval()
        accelerator = Accelerator(cpu=device.type == "cpu")

        def ours() -> None:
            with patch("latentdc.prune.score.refuse_chance"):  # these weights know nothing
                score_dataset(train, Prune(scorer=scorer, keep=0.5), accelerator=accelerator)

        def one_by_one() -> None:
            for row in range(few):
                image = from_uint8(levels[row : row + 1].to(device))
                F.cross_entropy(classifier(image), train.labels[row : row + 1].to(device)).item()

        for key, work, images in (("latentdc", ours, count), ("one at a time", one_by_one, few)):
            best_seconds({"": work}, 1, device)
            seconds = best_seconds({"": work}, 1 if scale.tiny else 2, device)[""]
            yield {"scorer": name, "px": size, "way": key, "ms per image": 1000 * seconds / images}


def precisions(scale: Scale) -> Rows:
    """Images and gradients in bf16 against float32, without TF32, which cuDNN has by default."""
    with precision_put_back():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        yield from _precisions(scale)


def _precisions(scale: Scale) -> Rows:
    for name in (scale.unet, scale.transformer):
        model = replace(MODELS[name], steps=2) if scale.tiny else MODELS[name]
        found: dict[str, tuple[Tensor, ...]] = {}
        for precision in ("no", "bf16"):
            with scale.device:
                networks = model.make().to(scale.device)
            prior = networks.prior(
                model.resolution, steps=model.steps, precision=precision, memory="low", chunk=1
            )
            given = inputs(prior, 2)
            with torch.no_grad():
                images = prior.decode(*given[:3]).float()
            found[precision] = (
                images,
                *gradients(lambda: our_step(prior, Plan("low", 1), given), given),  # noqa: B023
            )
        exact, coarse = found["no"], found["bf16"]
        row: Row = {"model": name, "levels off, of 255": _mean(exact[0] - coarse[0]) * 127.5}
        for key, a, b in zip(("dL/dz", "dL/dc"), exact[1:], coarse[1:], strict=True):
            row[f"cosine of {key}"] = float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))
            row[f"error of {key}"] = float((a - b).norm() / a.norm())
        yield row


def _mean(difference: Tensor) -> float:
    return float(difference.abs().mean())


def resumed(scale: Scale) -> Rows:
    """A distillation that is killed and continued, beside two that are not."""
    steps = 4 if scale.tiny else 20
    once, again = (_distilled(scale, [steps]) for _ in range(2))
    continued = _distilled(scale, [steps // 2, steps])
    for key, made in (("run twice", again), ("continued", continued)):
        error = float((made - once).norm() / once.norm())
        fits = error <= TOLERANCE
        yield {"compared": key, "steps": steps, "latents differ by": error, "within 1e-3": fits}


def _distilled(scale: Scale, stops: list[int]) -> Tensor:
    data, device = Data(resolution=16), scale.device
    train, _ = open_splits(data)
    prior = load_prior(PriorSettings(weights="digits", steps=4), resolution=16, device=device)
    accelerator = Accelerator(cpu=device.type == "cpu")
    with tempfile.TemporaryDirectory() as folder:
        for stop in stops:
            objective = build_objective(
                ObjectiveSettings(network="convnet3@32", batch=32),
                num_classes=10,
                resolution=16,
            )
            context = Context(ipc=1, seed=0, accelerator=accelerator)
            context = checkpoint.in_folder(Path(folder), context)
            settings = Matching(steps=stop, lr_z=1.0, lr_c=1.0)  # trials depend on the steps
            made = match(train, prior, objective, settings, context)
    assert made.z is not None
    return made.z.float().cpu()


def prior_training(scale: Scale) -> Rows:
    """Steps of a latent prior's training on latents that are there, which a later run goes on."""
    recipe = config.load(PriorRecipe, config.find("priors/cifar10", "recipes"), [])
    if scale.tiny:
        unet = replace(recipe.unet, channels=[32, 32], batch=8, steps=6, condition=32, heads=4)
        recipe = replace(recipe, unet=unet, checkpoint_every=3)
    else:
        recipe = replace(recipe, checkpoint_every=200)
    latents, labels = _latents(scale)
    latents, labels = latents.to(scale.device), labels.to(scale.device)
    names = tuple(map(str, range(int(labels.max()) + 1)))
    shape = (latents.shape[1], latents.shape[2], latents.shape[3])
    with draws.global_draws(0, "unet"):
        unet_, embedding = build_unet(recipe.unet, shape, names)
    pair = nn.ModuleDict({"unet": unet_, "embedding": embedding}).to(scale.device)
    path = scale.folder / "prior" / "unet.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _trained(path)
    up = None
    try:
        train_unet(recipe, latents, labels, pair, build_scheduler(), path)
    except TimeUp as error:  # the next run goes on from the last state
        up = error
    steps, seconds = (a - b for a, b in zip(_trained(path), before, strict=True))
    of = "real images" if scale.latents else "noise"
    rate = steps / seconds if seconds else None
    yield {"latents": of, "batch": recipe.unet.batch, "steps": steps, "steps/s": rate}
    if up is not None:
        raise up


def _trained(path: Path) -> tuple[int, float]:
    """Steps and their seconds, of the state that is kept."""
    if not path.is_file():
        return 0, 0.0
    _, facts = load_with_metadata(path)
    return int(facts["done"]), float(facts["seconds"])


def _latents(scale: Scale) -> tuple[Tensor, Tensor]:
    if scale.latents is not None:
        tensors = load_file(scale.latents)
        return tensors["latents"].float(), tensors["labels"].long()
    count = 64 if scale.tiny else 50_000
    source = torch.Generator().manual_seed(0)
    return torch.randn(count, 16, 8, 8, generator=source), torch.arange(count) % 10
