"""An autoencoder first, then a class-conditional UNet on its latents.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752. Both see the training split alone; the autoencoder has no
adversarial loss, the kept weights are exponential moving averages.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from latentdc import config, draws
from latentdc.data.dataset import Dataset
from latentdc.data.mapped import Images
from latentdc.data.open import open_splits
from latentdc.images import from_uint8, to_uint8
from latentdc.machine import device_name, use_threads
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.card import prior_card
from latentdc.priors.denoisers import ClassEmbedding, UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.loading import load_prior
from latentdc.priors.recipe import PriorRecipe
from latentdc.priors.small import build_autoencoder, build_scheduler, build_unet
from latentdc.priors.stage import Stage
from latentdc.report import save_grid

PER_CLASS = 8  # images of each class in the sample grid
GRID_STEPS = 50
GRID_GUIDANCE = 2.0


def train_prior(recipe: PriorRecipe, name: str, folder: Path, command: str) -> None:
    """Train, or continue to train, and write the finished prior to `folder/prior`."""
    use_threads(recipe.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test = open_splits(recipe.data)
    with draws.global_draws(recipe.seed, "autoencoder"):
        autoencoder = build_autoencoder(recipe.autoencoder, recipe.data.resolution).to(device)
    config.claim(
        recipe,
        folder,
        may_change=["threads", "checkpoint_every", "licence", "data.source", "data.cache"],
    )
    first = _train_autoencoder(recipe, train, autoencoder, folder / "checkpoints/autoencoder.pt")
    latents, labels = _encode(recipe, train, autoencoder, device)
    shift, scale = float(latents.mean()), 1 / float(latents.std())
    autoencoder.register_to_config(scaling_factor=scale, shift_factor=shift)
    latents = (latents - shift) * scale
    space = (latents.shape[1], latents.shape[2], latents.shape[3])
    with draws.global_draws(recipe.seed, "unet"):
        unet, embedding = build_unet(recipe.unet, space, train.class_names)
    pair = nn.ModuleDict({"unet": unet, "embedding": embedding}).to(device)
    scheduler = build_scheduler()
    second = _train_unet(recipe, latents, labels, pair, scheduler, folder / "checkpoints/unet.pt")
    part = folder / "prior.part"
    shutil.rmtree(part, ignore_errors=True)
    autoencoder.half().save_pretrained(part / "vae")
    unet.half().save_pretrained(part / "unet")
    embedding.half().save_pretrained(part / "class_embedding")
    scheduler.save_pretrained(part / "scheduler")
    _describe(recipe, name, part, test, device, first, second, command)
    shutil.rmtree(folder / "prior", ignore_errors=True)
    os.replace(part, folder / "prior")
    print(f"prior: {folder / 'prior'}")


def autoencoder_loss(
    autoencoder: AutoencoderKL, images: Tensor, noise: Tensor, *, kl: float, edges: float
) -> Tensor:
    """() error of one reconstruction: absolute error, its edges, and the KL term of the latents.

    Args:
        autoencoder: under training.
        images: (B, 3, H, W) in [-1, 1].
        noise: (B, C, h, w) standard normal draw for the latents.
        kl: weight of the KL divergence to N(0, 1), averaged over latent elements.
        edges: weight of the absolute error between horizontal and vertical pixel differences.
    """
    posterior = autoencoder.encode(images).latent_dist
    decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
    error = decoded - images
    edge = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss: Tensor = error.abs().mean() + edges * edge + kl * divergence
    return loss


def denoising_loss(
    unet: UNet2DConditionModel,
    embedding: ClassEmbedding,
    scheduler: DDIMScheduler,
    latents: Tensor,
    labels: Tensor,
    noise: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """() mean squared error of the predicted noise (Eq. 2 of Rombach et al.)."""
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = unet(noisy, timesteps, encoder_hidden_states=embedding(labels)).sample
    loss: Tensor = (predicted - noise).square().mean()
    return loss


def _draw_images(recipe: PriorRecipe, train: Dataset, step: int, device: torch.device) -> Tensor:
    source = draws.generator(recipe.seed, "autoencoder", step)
    chosen = torch.randint(len(train), (recipe.autoencoder.batch,), generator=source)
    images = from_uint8(train.images[chosen].to(device))
    if recipe.flip:
        mirrored = (torch.rand(len(chosen), generator=source) < 0.5).to(device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def _train_autoencoder(
    recipe: PriorRecipe, train: Dataset, autoencoder: AutoencoderKL, path: Path
) -> Stage:
    spec = recipe.autoencoder
    stage = Stage(autoencoder.train(), path, steps=spec.steps, lr=spec.lr, ema=recipe.unet.ema)
    device = autoencoder.device
    size = recipe.data.resolution // 2 ** (len(spec.channels) - 1)

    def loss(step: int) -> Tensor:
        images = _draw_images(recipe, train, step, device)
        shape = (len(images), spec.latent_channels, size, size)
        noise = torch.randn(shape, generator=draws.generator(recipe.seed, "posterior", step))
        return autoencoder_loss(autoencoder, images, noise.to(device), kl=spec.kl, edges=spec.edges)

    stage.run(loss, every=recipe.checkpoint_every, title="autoencoder")
    autoencoder.eval().requires_grad_(False)
    return stage


@torch.no_grad()
def _encode(
    recipe: PriorRecipe, train: Dataset, autoencoder: AutoencoderKL, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Unscaled latents of all training images, and of their mirror images if these are drawn."""
    parts = []
    for mirrored in (False, True) if recipe.flip else (False,):
        for chosen in torch.arange(len(train)).split(500):
            images = from_uint8(train.images[chosen].to(device))
            images = images.flip(-1) if mirrored else images
            parts.append(autoencoder.encode(images).latent_dist.mode())
    latents = torch.cat(parts)
    return latents, train.labels.repeat(len(latents) // len(train)).to(device)


def _train_unet(
    recipe: PriorRecipe,
    latents: Tensor,
    labels: Tensor,
    pair: nn.ModuleDict,
    scheduler: DDIMScheduler,
    path: Path,
) -> Stage:
    spec = recipe.unet
    stage = Stage(pair.train(), path, steps=spec.steps, lr=spec.lr, ema=spec.ema)
    unet, embedding = pair["unet"], pair["embedding"]
    assert isinstance(unet, UNet2DConditionModel) and isinstance(embedding, ClassEmbedding)
    device, null = latents.device, len(embedding.config["class_names"])

    def loss(step: int) -> Tensor:
        source = draws.generator(recipe.seed, "unet", step)
        chosen = torch.randint(len(latents), (spec.batch,), generator=source).to(device)
        noise = torch.randn((spec.batch, *latents.shape[1:]), generator=source).to(device)
        timesteps = torch.randint(1000, (spec.batch,), generator=source).to(device)
        dropped = (torch.rand(spec.batch, generator=source) < spec.drop).to(device)
        known = labels[chosen].masked_fill(dropped, null)
        return denoising_loss(unet, embedding, scheduler, latents[chosen], known, noise, timesteps)

    stage.run(loss, every=recipe.checkpoint_every, title="unet")
    pair.eval().requires_grad_(False)
    return stage


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


def _describe(
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
    prior = load_prior(
        "diffusion",
        str(folder),
        resolution=recipe.data.resolution,
        steps=GRID_STEPS,
        guidance=GRID_GUIDANCE,
        skip="none",
        device=device,
    )
    assert isinstance(prior, DiffusionPrior) and isinstance(prior.denoiser, UNetDenoiser)
    images, labels = sample_images(prior, recipe.seed, PER_CLASS)
    save_grid(folder / "grid.png", images, labels, test.class_names)
    weights = prior.autoencoder.autoencoder, prior.denoiser.unet, prior.denoiser.embedding
    facts = {
        "psnr_db": round(reconstruction_psnr(prior.autoencoder, test.images), 2),
        "held_out_images": len(test),
        "parameters": [sum(p.numel() for p in part.parameters()) for part in weights],
        "seconds": [round(first.seconds), round(second.seconds)],
        "steps": [first.done, second.done],
        "machine": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "command": command,
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "README.md").write_text(prior_card(recipe, name, facts))
    config.save(replace(recipe, output=None, threads=None), folder / "recipe.yaml")
