"""What is told of a trained prior: its error, its samples, its card."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from latentdc import config, draws
from latentdc.data.dataset import Dataset
from latentdc.images import Images, from_uint8, to_uint8
from latentdc.pictures import save_grid
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.card import prior_card
from latentdc.priors.denoisers import UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.load import load_prior
from latentdc.priors.recipe import PriorRecipe
from latentdc.priors.stage import Stage
from latentdc.published import published, without_paths
from latentdc.recipe import PriorSettings
from latentdc.runtime import device_name

PER_CLASS = 8  # images of each class in the sample grid
GRID_STEPS = 50
GRID_GUIDANCE = 2.0


def describe(
    recipe: PriorRecipe,
    name: str,
    folder: Path,
    test: Dataset,
    device: torch.device,
    first: Stage,
    second: Stage,
    command: str,
) -> None:
    """Measure the written half-precision prior, draw its grid, write its card."""
    settings = PriorSettings(
        weights=str(folder), steps=GRID_STEPS, guidance=GRID_GUIDANCE, skip="none", memory="fast"
    )
    prior = load_prior(settings, resolution=recipe.data.resolution, device=device)
    assert isinstance(prior, DiffusionPrior) and isinstance(prior.denoiser, UNetDenoiser)
    images, labels = sample_images(prior, recipe.seed, PER_CLASS)
    save_grid(folder / "grid.png", images, labels, test.class_names)
    weights = prior.autoencoder.autoencoder, prior.denoiser.network, prior.denoiser.embedding
    facts = {
        "psnr_db": round(reconstruction_psnr(prior.autoencoder, test.images), 2),
        "held_out_images": len(test),
        "parameters": [sum(p.numel() for p in part.parameters()) for part in weights],
        "seconds": [round(first.seconds), round(second.seconds)],
        "steps": [first.done, second.done],
        "machine": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "command": published(command),
    }
    data = replace(recipe.data, cache=None)
    shared = without_paths(replace(recipe, data=data, output=None, threads=None))
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "README.md").write_text(prior_card(shared, name, facts), encoding="utf-8")
    config.save(shared, folder / "recipe.yaml")


@torch.no_grad()
def reconstruction_psnr(space: AutoencoderPrior, images: Images) -> float:
    """Mean PSNR in dB of the autoencoder's reconstructions of (N, 3, H, W) uint8 images."""
    device = space.autoencoder.device
    total = 0.0
    for start in range(0, len(images), 500):
        wanted = images[start : start + 500].to(device)
        made = to_uint8(space.decode(space.encode(from_uint8(wanted))))
        error = (made.float() - wanted.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-3)
        total += float((10 * torch.log10(255**2 / error)).sum())
    return total / len(images)


@torch.no_grad()
def sample_images(prior: DiffusionPrior, seed: int, per_class: int) -> tuple[Tensor, Tensor]:
    """(C * per_class, 3, H, W) uint8 images drawn from noise alone, and their labels."""
    assert prior.class_names is not None
    device = prior.denoiser.null.device
    labels = torch.arange(len(prior.class_names)).repeat_interleave(per_class)
    made = []
    for index, part in enumerate(labels.split(50)):
        shape = (len(part), *prior.latent_shape)
        noise = torch.randn(shape, generator=draws.generator(seed, "samples", index)).to(device)
        images = prior.decode(torch.zeros_like(noise), prior.condition(part.to(device)), noise)
        made.append(to_uint8(images).cpu())
    return torch.cat(made), labels
