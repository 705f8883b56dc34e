"""What a prior's images are worth: how many a classifier names rightly, and what students learn.

python benchmarks/prior_samples.py digits digits_ipc1
python benchmarks/prior_samples.py cifar10 dm_cifar10 --students 500 \
    prune.scorer.network=resnet20 prune.scorer.weights=resnet20.safetensors

The classifier is `prune.scorer` where it has weights, else a small network that is trained on the
training split. Named are real test images, their reconstructions, and samples of all classes alike.
With `--students` N, `--seeds` students learn from N samples of each class, and from as many real
images, so that a prior whose samples are all alike does not pay.
"""

import argparse
import time

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import (
    Normalization,
    PriorSettings,
    SyntheticSet,
    evaluate_sets,
    load_prior,
    load_protocol,
    open_splits,
)
from latentdc.config import find, load
from latentdc.evaluate.class_numbers import open_classifier
from latentdc.evaluate.setting import Setting
from latentdc.images import from_uint8, to_uint8
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.recipe import Recipe

BATCH = 100


@torch.no_grad()
def share_named(network: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percentage of (N, 3, H, W) uint8 images whose (N,) label the network finds."""
    found = [network(from_uint8(part)).argmax(dim=1) for part in images.split(BATCH)]
    return 100 * float((torch.cat(found) == labels).double().mean())


@torch.no_grad()
def reconstructed(prior: Prior, images: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) uint8 reconstructions, and the (N,) PSNR in dB of each."""
    parts = [to_uint8(prior.render(prior.encode(from_uint8(x)))) for x in images.split(BATCH)]
    errors = (torch.cat(parts).float() - images.float()).square().mean(dim=(1, 2, 3))
    return torch.cat(parts), 10 * torch.log10(255**2 / errors.clamp_min(1e-3))


@torch.no_grad()
def sampled(prior: DiffusionPrior, names: tuple[str, ...], per_class: int) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) uint8 samples of all classes, and their (N,) labels."""
    keys = [(name, number) for name in names for number in range(per_class)]
    labels = torch.arange(len(names)).repeat_interleave(per_class)
    parts = []
    for start in range(0, len(keys), BATCH):
        part = slice(start, start + BATCH)
        parts.append(to_uint8(prior.render(prior.sample(labels[part], keys[part]))))
    return torch.cat(parts), labels


def numbers(text: str) -> list[float]:
    """Those between the commas, so that what comes after them is not taken for more."""
    return [float(part) for part in text.split(",")]


def main() -> None:
    """Print a line for each kind of image."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prior", help="a shipped name, a folder or a Hub id")
    parser.add_argument("recipe", help="whose data are meant, and whose prune.scorer")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the recipe")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=numbers, default="1,2,4", help="with commas between")
    parser.add_argument("--students", type=int, default=0, metavar="N", help="samples of a class")
    parser.add_argument("--seeds", type=int, default=1, help="of each student")
    options = parser.parse_intermixed_args()
    recipe = load(Recipe, find(options.recipe, "recipes"), options.overrides)
    train, test = open_splits(recipe.data)
    normalization = Normalization(recipe.data.mean, recipe.data.std)
    setting = Setting(test=test, normalization=normalization, accelerator=Accelerator())
    found = open_classifier(recipe.data, recipe.prune.scorer, [], train, setting)
    assert found is not None, "no network names the real images"
    network = found[1].eval()
    some = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: options.images]
    images, labels = test.images[some], test.labels[some]
    print(f"named rightly by {found[0]}:")
    print(f"{share_named(network, images, labels):5.1f} %  of {len(images)} real test images")
    sets = {}
    if options.students:
        real = train.select(_first(train.labels, options.students))
        sets["real images"] = SyntheticSet.from_real(real)
    for guidance in options.guidance:
        settings = PriorSettings(weights=options.prior, steps=options.steps, guidance=guidance)
        prior = load_prior(settings, resolution=recipe.data.resolution)
        assert isinstance(prior, DiffusionPrior)
        if guidance == options.guidance[0]:
            again, psnr = reconstructed(prior, images)
            share = share_named(network, again, labels)
            print(f"{share:5.1f} %  of their reconstructions, {psnr.mean():.2f} dB")
        began, count = time.perf_counter(), -(-options.images // test.num_classes)
        images_, labels_ = sampled(prior, test.class_names, max(count, options.students))
        first = _first(labels_, count)
        share = share_named(network, images_[first], labels_[first])
        seconds = time.perf_counter() - began
        print(f"{share:5.1f} %  of {len(first)} samples, guidance {guidance:g} ({seconds:.0f} s)")
        sets[f"guidance {guidance:g}"] = SyntheticSet(images_, labels_, test.class_names)
    if options.students:
        protocol = load_protocol("quick", students=["convnet3@32"], seeds=options.seeds)
        for name, one in sets.items():
            (result,) = evaluate_sets(one, test, protocol, normalization=normalization)
            each = ", ".join(f"{100 * share:.1f}" for share in result.accuracies)
            right = f"{100 * result.mean:5.1f} %  ({each})"
            print(f"{right} right by a convnet3@32 that learned from {name}")


def _first(labels: Tensor, count: int) -> Tensor:
    """The first `count` positions of each class."""
    return torch.cat([(labels == c).nonzero()[:count, 0] for c in labels.unique()])


if __name__ == "__main__":
    main()
